"""Logs -> episodes in standardized units with their splits: what the stages do, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worldmodel.arrays.packing import labels_of, pack, sample_of
from worldmodel.arrays.scaler import Sample, Scaler, fit
from worldmodel.arrays.windows import Packed
from worldmodel.core.params import IngestParams, Normalize
from worldmodel.episodes.schema import ActionSpace, Episode, Split
from worldmodel.logs.reader import read_logs
from worldmodel.logs.rejects import require_few_rejects
from worldmodel.logs.split import assign


@dataclass(frozen=True)
class Material:
    episodes: list[Episode]  # observed ones that have a split
    splits: list[Split]
    action_space: ActionSpace
    scaler: Scaler  # fitted on the train episodes

    @property
    def train(self) -> list[Episode]:
        return [episode for episode, split in zip(self.episodes, self.splits, strict=True) if split == "train"]

    def packed(self, dreams: Sequence[Episode] = ()) -> Packed:
        """All episodes end to end; dreams are train."""
        episodes = [*self.episodes, *dreams]
        splits = [*self.splits, *("train" for _ in dreams)]
        return pack(_samples(episodes, self.action_space), self.scaler, labels_of(episodes, splits))


def read_material(logs: Sequence[Path], intake: IngestParams, normalize: Normalize) -> Material:
    """Raises ValueError where the logs are no good."""
    found = read_logs(logs, intake.max_gap_s)
    require_few_rejects(found, intake.max_rejected_share)
    pairs = zip(found.episodes, assign(found.episodes, intake), strict=True)
    kept = [(episode, split) for episode, split in pairs if split is not None and episode.source == "observed"]
    train = [episode for episode, split in kept if split == "train"]
    space = found.action_space
    scaler = fit(_samples(train, space), normalize.method, normalize.min_std, one_hot=space.kind == "discrete")
    return Material([episode for episode, _ in kept], [split for _, split in kept], space, scaler)


def _samples(episodes: Sequence[Episode], space: ActionSpace) -> list[Sample]:
    return [
        sample_of(episode.features, space.encode(episode.actions), episode.rewards, episode.confidence)
        for episode in episodes
    ]
