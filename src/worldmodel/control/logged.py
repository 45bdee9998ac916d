"""What the logs hold beside episodes that are played: returns of their agents, and frames that no start may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from worldmodel.core.params import IngestParams, part, read
from worldmodel.core.project import default_params
from worldmodel.core.typing import Doubles
from worldmodel.core.yaml12 import read_yaml
from worldmodel.episodes.schema import Episode
from worldmodel.logs.files import Location
from worldmodel.logs.ingest import ingest
from worldmodel.logs.reader import read_logs

NEAR = 1e-4  # of the range of each feature: about what the decimals of a log leave open


@dataclass(frozen=True)
class Logged:
    whole: Sequence[Episode]  # observed, from their first frame on
    train: Sequence[Episode]  # as the bundle's split and cuts have them
    val: Sequence[Episode]

    def returns(self, steps: int) -> Mapping[str, Doubles]:
        """By agent, of episodes that hold so many frames, or whose task ended before; of longer ones, their first
        frames. Others are no comparison.
        """
        found = dict[str, list[float]]()
        for each in self.whole:
            if each.rewards is not None and (each.length >= steps or each.terminal):
                found.setdefault(each.agent_id, []).append(float(each.rewards[:steps].sum(dtype=np.float64)))
        return {agent: np.array(some) for agent, some in sorted(found.items())}

    def near(self, frames: Doubles) -> list[bool]:
        """Which of the frames [N, F] the logs hold."""
        logged = np.concatenate([each.features for each in self.whole])
        apart = NEAR * (np.nanmax(logged, axis=0) - np.nanmin(logged, axis=0))
        return [bool((np.abs(logged - frame) <= apart).all(axis=1).any()) for frame in frames]


def read_logged(logs: Location, bundle: Path, features: int) -> Logged:
    """Raises ValueError where the logs are bad, or not of so many features."""
    intake = _intake(bundle / "params.yaml")
    found = ingest([logs], intake, lambda episode: episode)
    if found.feature_count != features:
        raise ValueError(f"{logs}: found {found.feature_count} features, expected {features}, those of the bundle")
    whole: Sequence[Episode] = found.episodes
    if intake.resample_s or intake.max_length_s or intake.split_by == "time":
        whole = read_logs([logs], intake.max_gap_s, intake.missing).episodes
    observed = [each for each in whole if each.source == "observed" and each.segment == 0]
    return Logged(observed, found.observed("train"), found.observed("val"))


def _intake(path: Path) -> IngestParams:
    """As the bundle was made; what an old one does not say, and one without the file, as it would be made here."""
    ours = part(read(default_params()).prepare, IngestParams)
    said = read_yaml(path).get("prepare", {}) if path.is_file() else {}
    return replace(ours, **{item.name: said[item.name] for item in fields(IngestParams) if item.name in said})
