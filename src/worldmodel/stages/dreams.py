"""offline logs -> dreams: canonical JSONL of episodes that a teacher imagined, a simulator of the user's computed, or
that the log holds already (the control).

All of them see observed train episodes and nothing else; the split is the one that prepare uses.
"""

from pathlib import Path

import click
import torch

from worldmodel.checkpoints.checkpoint import Checkpoints, checkpoints_of
from worldmodel.core import params
from worldmodel.core.atomic import publishing
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.dreams.dreamer import generate_dreams, pack_logs
from worldmodel.dreams.realism import Realism, describe, realism
from worldmodel.dreams.simulating import simulator_files
from worldmodel.episodes.schema import Episode
from worldmodel.logs.ingest import ingest
from worldmodel.logs.writing import write_jsonl
from worldmodel.numerics import setup
from worldmodel.numerics.isolation import portable

LIBRARIES = ("msgspec", "numpy", "torch")
FILE = "dreams.jsonl"
DREAMERS = {"teacher": "the teacher", "simulator": "the simulator", "repeat": "repeating what was logged"}


@portable
def dreams(logs: Path, out: Path, settings: params.DreamsStage, checkpoints: Checkpoints | None = None) -> None:
    """Write out/dreams.jsonl, empty where dreams.episodes is 0. Raises ValueError for bad logs or dreams."""
    device = setup.configure(settings.train)
    with publishing(out, own=[FILE]) as (folder,):
        found_out = _dream(logs, folder, settings, device, checkpoints)
    if found_out:
        print(describe(found_out))


def _dream(
    logs: Path, out: Path, settings: params.DreamsStage, device: torch.device, checkpoints: Checkpoints | None
) -> Realism | None:
    found = ingest([logs], settings.prepare, Episode.whole, history=settings.train.history)
    train, space, scales = found.observed("train"), found.action_space, settings.normalize
    history = settings.train.history
    dreamed = generate_dreams(train, space, settings.dreams, scales, history, device, checkpoints, found.columns)
    write_jsonl(out / FILE, dreamed)
    frames, who = sum(episode.length for episode in dreamed), DREAMERS[settings.dreams.source]
    print(f"{len(dreamed)} dreams of {frames} frames by {who}, from {len(train)} train episodes")
    if found.missing and settings.dreams.source == "teacher":
        print("readings are missing: the teacher is its world models alone, as others beside them need whole frames")
    packed, _ = pack_logs(train, space, scales, found.columns, dreamed)
    return realism(packed, history, settings.dreams.length)  # what validate will measure, told before the training


def _simulator(settings: params.Dreams) -> dict[str, Path]:
    """The files of the user's function, where it is used."""
    files = simulator_files(settings.simulator) if settings.source == "simulator" else []
    return {path.as_posix(): path for path in files}


@click.command(help="Let a teacher or a simulator dream from the train split, or repeat it.")
@click.option("--logs", type=PATH, required=True, help="Folder of observed logs.")
@click.option("--out", type=PATH, required=True, help="Folder for dreams.jsonl.")
@params_option
def command(logs: Path, out: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.DreamsStage)
    inputs = {"logs": logs} | _simulator(settings.dreams)
    task = begin("dreams", settings, inputs, LIBRARIES)
    with checkpoints_of(task) as checkpoints, task.record(params_file):
        dreams(logs, out, settings, checkpoints)
