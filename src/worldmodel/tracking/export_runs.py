"""Bring runs/ and artifacts/ into MLflow or TensorBoard: `make export-mlflow`, `make export-tensorboard`.

What was brought before and has not changed stays; what has changed is replaced. Nothing that is read is written to.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from worldmodel.core.addresses import public, reason
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder
from worldmodel.tracking.tracked import Tracked, tracked

EXPERIMENT = "worldmodel"
BATCH = 100  # of params, tags or metrics: the most that MLflow takes at once of the first two
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


def to_mlflow(found: Sequence[Tracked], uri: str) -> int:
    """How many runs were written to the tracking store, a database or a server, under one experiment."""
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise _missing("mlflow", error) from None
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        client = MlflowClient(uri)
        known = client.get_experiment_by_name(EXPERIMENT)
    except MlflowException as error:
        raise ValueError(f"{public(uri)}: no MLflow store answers there ({reason(error, uri)})") from None
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    return sum(_put(client, experiment, each) for each in found)


def _put(client: Any, experiment: str, run: Tracked) -> bool:
    from mlflow.entities import Metric, Param, RunTag

    content = fingerprint(asdict(run))
    earlier = client.search_runs([experiment], f"tags.run_id = '{run.run_id}'")
    if [each.data.tags.get("content") for each in earlier] == [content]:
        return False
    begun, ended = (int(1000 * seconds) for seconds in (run.begun, run.ended))
    name = f"{run.stage} {run.run_id}"
    made = client.create_run(experiment, begun, {"run_id": run.run_id, "stage": run.stage}, name).info.run_id
    params = [Param(key, str(value)) for key, value in run.params.items()]
    metrics = [Metric(key, value, ended, step) for key, value, step in run.points()]
    for begin in range(0, max(len(params), len(metrics)), BATCH):
        part = slice(begin, begin + BATCH)
        client.log_batch(made, params=params[part], metrics=metrics[part])
    # Last, so that what was cut off is brought again.
    client.log_batch(made, tags=[RunTag(key, text) for key, text in (run.tags | {"content": content}).items()])
    client.set_terminated(made, STATUS[run.outcome], ended)
    for each in earlier:
        client.delete_run(each.info.run_id)
    return True


def to_tensorboard(found: Sequence[Tracked], folder: Path) -> int:
    """How many runs were written, each into a folder of its own below `folder`."""
    return sum(_write(folder / f"{each.stage}-{each.run_id}", each) for each in found)


def _write(folder: Path, run: Tracked) -> bool:
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # `api` asks for TensorFlow
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise _missing("tensorboard", error) from None
    stamp = folder / "content"
    content = fingerprint(asdict(run))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == content:
        return False
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    scalars = [
        (step, summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=name, simple_value=value)]))
        for name, value, step in run.points()
    ]
    writer = EventFileWriter(str(folder))
    for step, summary in [(0, hparams_pb(run.params, start_time_secs=run.begun)), *scalars]:
        writer.add_event(event_pb2.Event(wall_time=run.ended, step=step, summary=summary))
    writer.close()
    stamp.write_text(content, encoding="utf-8")
    return True


def _missing(library: str, error: ImportError) -> ValueError:
    return ValueError(
        f"{library} cannot be imported here ({error}); `make export-{library}` brings it, into a virtual environment "
        "of its own; or pip install -r requirements-trackers.txt"
    )


@click.command()
@click.argument("tracker", type=click.Choice(["mlflow", "tensorboard"]))
@click.option("--to", help="Tracking URI, or folder.  [default: sqlite:///runs/mlflow.db, runs/tensorboard]")
@click.option("--project", type=PATH, help="Its folder; else the one that this is called in.")
def command(tracker: str, to: str | None, project: Path | None) -> None:
    """Bring runs/ and artifacts/ into MLflow or TensorBoard; nothing that is read is written to."""
    project = project or project_folder()
    found, runs = tracked(project), project.resolve() / "runs"
    if tracker == "mlflow":
        place = to or f"sqlite:///{runs / 'mlflow.db'}"
        written = to_mlflow(found, place)
    else:
        place = to or str(runs / "tensorboard")
        written = to_tensorboard(found, Path(place))
    print(f"{public(place)}: {written} runs brought, {len(found) - written} were there already")
