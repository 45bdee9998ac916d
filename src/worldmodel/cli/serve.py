"""A bundle as a service that any client of the Open Inference Protocol speaks to."""

import os
from pathlib import Path

import click

from worldmodel.core.options import PATH

EXTRA = "pip install 'worldmodel[serve]', or '.[serve]' in a checkout"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Of HTTP; 0: a free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="Of gRPC.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="That run graphs, one core each.")
@click.option("--max-body", type=click.IntRange(1024), default=8_388_608, show_default=True, help="Bytes of a request.")
@click.option("--max-connections", type=click.IntRange(1), default=1024, show_default=True, help="At once.")
@click.option("--max-frames", type=click.IntRange(1), default=16_384, show_default=True, help="Rows times frames.")
@click.option("--max-sessions", type=click.IntRange(1), default=256, show_default=True, help="Of planners.")
@click.option(
    "--session-idle", type=click.FloatRange(1), default=600.0, show_default=True, help="Seconds; then it ends."
)
@click.option("--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds of a request.")
@click.option("--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to end in.")
@click.option("--budget-ms", type=click.FloatRange(0, min_open=True), help="Time of a planner's decision.")
@click.option("--tls-cert", type=FILE, help="PEM, of this server.")
@click.option("--tls-key", type=FILE, help="PEM, its key.")
@click.option("--tls-client-ca", type=FILE, help="PEM; only clients whose certificates it has signed may ask.")
@click.option("--insecure", is_flag=True, help="Let anybody ask who can reach the address.")
def command(
    bundle: Path,
    host: str,
    port: int,
    grpc_port: int,
    threads: int,
    max_body: int,
    max_connections: int,
    max_frames: int,
    max_sessions: int,
    session_idle: float,
    timeout: float,
    grace: float,
    budget_ms: float | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    insecure: bool,
) -> None:
    """Serve BUNDLE over HTTP and gRPC: the Open Inference Protocol, version 2.

    BUNDLE is a bundle, a link to one, or a folder with one bundle or with a link `current`. Another bundle in its
    place, or SIGHUP, swaps; SIGTERM ends when all requests have their answers. With WORLDMODEL_TOKEN set, clients must
    send it. docs/serve.md says more.
    """
    from worldmodel.serve.access import VARIABLE, Access

    access = Access(os.environ.get(VARIABLE, ""), tls_cert, tls_key, tls_client_ca)
    access.require_for(host, insecure)
    try:
        from worldmodel.serve.engine import Engine, Limits
        from worldmodel.serve.server import run
        from worldmodel.serve.telemetry import logging_lines
    except ModuleNotFoundError as missing:
        raise ValueError(f"this command needs {missing.name}, which is not installed; {EXTRA}") from None
    limits = Limits(max_body, max_connections, timeout, max_frames, max_sessions, session_idle)
    with logging_lines():
        run(Engine(bundle, limits, threads, budget_ms), access, host, (port, grpc_port), grace)
