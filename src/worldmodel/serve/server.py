"""One event loop for HTTP and gRPC, from the first request to the last."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from worldmodel.serve.access import Access
from worldmodel.serve.connections import Connection
from worldmodel.serve.engine import Engine
from worldmodel.serve.http import App
from worldmodel.serve.rpc import Rpc
from worldmodel.serve.telemetry import say

SWITCH_S = 0.0005  # a thread that comes back from a graph waits so long for Python at most
WATCH_S = 1.0
BACKLOG = 2048


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: signals are for both servers."""
        yield


def run(engine: Engine, access: Access, host: str, ports: tuple[int, int], grace_s: float) -> None:
    """Serve until SIGTERM or SIGINT; ports of HTTP and gRPC, 0 for free ones. Raises OSError where one is taken."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = engine.limits.connections * 2 + 256
    if files != resource.RLIM_INFINITY and files < wanted:
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what is there by now stays: no request waits while it is looked through for garbage
    uvloop.run(_serve(engine, access, host, ports, grace_s))


async def _serve(engine: Engine, access: Access, host: str, ports: tuple[int, int], grace_s: float) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    opened, rpc = _listening(host, ports[0]), Rpc(engine, access)
    server = _Http(_config(engine, access, grace_s))
    grpc_port = await rpc.start(host, ports[1])
    serving = asyncio.create_task(server.serve([opened]))
    swaps = set[asyncio.Task[None]]()

    def swap() -> None:
        swaps.add(task := asyncio.create_task(engine.swap()))
        task.add_done_callback(swaps.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, swap)
    watching = asyncio.create_task(engine.watch(WATCH_S))
    engine.ready = True
    http_port = opened.getsockname()[1]
    say("serving", host=host, http=http_port, grpc=grpc_port, run_id=engine.run_id, models=list(engine.bundle.models))
    await asyncio.wait([serving, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    engine.ready = False
    say("draining", seconds=grace_s)
    watching.cancel()
    server.should_exit = True
    await asyncio.gather(serving, rpc.stop(grace_s))
    engine.close()
    say("stopped")


def _config(engine: Engine, access: Access, grace_s: float) -> uvicorn.Config:
    connection = type("Connection", (Connection,), {"seconds": engine.limits.seconds})
    return uvicorn.Config(
        App(engine, access),
        http=connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=engine.limits.connections,
        backlog=BACKLOG,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=round(grace_s),
        ssl_certfile=access.certificate,
        ssl_keyfile=access.key,
        ssl_ca_certs=str(access.clients) if access.clients else None,
        ssl_cert_reqs=2 if access.clients else 0,
    )


def _listening(host: str, port: int) -> socket.socket:
    """Raises OSError where the port cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port} (HTTP): {error.strerror}") from None
    return opened
