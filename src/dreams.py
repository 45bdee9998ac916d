"""offline logs -> dreams: canonical JSONL of episodes that a teacher imagined, or a simulator of the user's computed.

Either sees observed train episodes and nothing else; the split is the one that prepare uses.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from worldmodel import numerics, params, stage
from worldmodel.dreaming import generate_dreams
from worldmodel.logs import read_logs, require_few_rejects, write_jsonl
from worldmodel.packing import labels_of, pack, sample_of
from worldmodel.realism import Realism, realism, told
from worldmodel.scaler import fit
from worldmodel.schema import ActionSpace, Episode
from worldmodel.split import assign

FILE = "dreams.jsonl"


def dreams(logs: Path, out: Path, settings: params.DreamsStage) -> None:
    """Write out/dreams.jsonl, empty where dreams.episodes is 0. Raises ValueError for bad logs or dreams."""
    device = numerics.settle(settings.train)
    found = read_logs([logs], settings.prepare.max_gap_s)
    require_few_rejects(found, settings.prepare.max_rejected_share)
    splits = assign(found.episodes, settings.prepare)
    train = [
        episode
        for episode, split in zip(found.episodes, splits, strict=True)
        if split == "train" and episode.source == "observed"
    ]
    dreamed = generate_dreams(
        train, found.action_space, settings.dreams, settings.normalize, settings.train.history, device
    )
    write_jsonl(out / FILE, dreamed)
    frames = sum(episode.length for episode in dreamed)
    print(f"{len(dreamed)} dreams of {frames} frames by the {settings.dreams.source}, from {len(train)} train episodes")
    found_out = _realism(train, dreamed, found.action_space, settings)
    if found_out:
        print(told(found_out))


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Let a teacher or a simulator dream from the train split.")
    parser.add_argument("--logs", type=Path, required=True, help="folder of observed logs")
    parser.add_argument("--out", type=Path, required=True, help="folder for dreams.jsonl")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    given = parser.parse_args()
    dreams(given.logs, given.out, params.load(given.params, params.DreamsStage))


if __name__ == "__main__":
    stage.run(main)
