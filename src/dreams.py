"""offline logs -> dreams: canonical JSONL of episodes that a teacher imagined, a simulator of the user's computed, or
that the log holds already (the control).

All of them see observed train episodes and nothing else; the split is the one that prepare uses.
"""

import worldmodel.runtime.instructions  # noqa: F401  (before NumPy, which goes by it)

# isort: split
import argparse
from collections.abc import Sequence
from pathlib import Path

from worldmodel.config import params
from worldmodel.data.logs import read_logs, write_jsonl
from worldmodel.data.packing import labels_of, pack, sample_of
from worldmodel.data.rejects import require_few_rejects
from worldmodel.data.scaler import fit
from worldmodel.data.schema import ActionSpace, Episode, Split
from worldmodel.data.split import assign
from worldmodel.dreaming.dreamer import generate_dreams
from worldmodel.measuring.realism import Realism, realism, told
from worldmodel.runtime import numerics, stage, work
from worldmodel.runtime.checkpoint import Checkpoints, held_for
from worldmodel.runtime.fingerprint import import_closure

LIBRARIES = ("numba", "numpy", "torch")
FILE = "dreams.jsonl"
DREAMERS = {"teacher": "the teacher", "simulator": "the simulator", "repeat": "repeating what was logged"}


def dreams(logs: Path, out: Path, settings: params.DreamsStage, kept: Checkpoints | None = None) -> None:
    """Write out/dreams.jsonl, empty where dreams.episodes is 0. Raises ValueError for bad logs or dreams."""
    device = numerics.settle(settings.train)
    observed, space = read_observed(logs, settings.prepare)
    train = observed["train"]
    dreamed = generate_dreams(train, space, settings.dreams, settings.normalize, settings.train.history, device, kept)
    write_jsonl(out / FILE, dreamed)
    frames, who = sum(episode.length for episode in dreamed), DREAMERS[settings.dreams.source]
    print(f"{len(dreamed)} dreams of {frames} frames by {who}, from {len(train)} train episodes")
    found_out = _realism(train, dreamed, space, settings)
    if found_out:
        print(told(found_out))


def read_observed(logs: Path, intake: params.Intake) -> tuple[dict[Split, list[Episode]], ActionSpace]:
    """Observed episodes by split, less what train_episodes leaves out. Raises ValueError for bad logs."""
    found = read_logs([logs], intake.max_gap_s)
    require_few_rejects(found, intake.max_rejected_share)
    by_split: dict[Split, list[Episode]] = {"train": [], "val": [], "test": []}
    for episode, split in zip(found.episodes, assign(found.episodes, intake), strict=True):
        if split is not None and episode.source == "observed":
            by_split[split].append(episode)
    return by_split, found.action_space


def _realism(
    train: Sequence[Episode], dreamed: Sequence[Episode], space: ActionSpace, settings: params.DreamsStage
) -> Realism | None:
    """What validate will measure, told before anyone trains on these dreams."""
    episodes = [*train, *dreamed]
    samples = [sample_of(each.features, space.encode(each.actions), each.rewards) for each in episodes]
    scales = settings.normalize
    scaler = fit(samples[: len(train)], scales.method, scales.min_std, one_hot=space.kind == "discrete")
    packed = pack(samples, scaler, labels_of(episodes, ["train"] * len(episodes)))
    return realism(packed, settings.train.history, settings.dreams.length)


def _simulator(settings: params.Dreams) -> dict[str, Path]:
    """The file of the user's function, where it is used and lies in the project's folder, and what that imports."""
    entry = Path(*settings.simulator.split(":")[0].split(".")).with_suffix(".py")
    files = import_closure(entry) if settings.source == "simulator" and entry.is_file() else []
    return {path.as_posix(): path for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Let a teacher or a simulator dream from the train split, or repeat it."
    )
    parser.add_argument("--logs", type=Path, required=True, help="folder of observed logs")
    parser.add_argument("--out", type=Path, required=True, help="folder for dreams.jsonl")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    given = parser.parse_args()
    settings = params.load(given.params, params.DreamsStage)
    inputs = {"logs": given.logs} | _simulator(settings.dreams)
    task = work.begin(Path(__file__), settings, inputs, LIBRARIES)
    with held_for(task) as kept, task.watched(given.params):
        dreams(given.logs, given.out, settings, kept)


if __name__ == "__main__":
    stage.run(main)
