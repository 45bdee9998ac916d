"""Runs of `worldmodel control` with the bundle of the page. Dimension key: T frames, K frames of a plan, F features."""

import json
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass

from worldmodel.core.checked import Float, Text, Whole, checked
from worldmodel.core.regular import parsed
from worldmodel.core.typing import Doubles

RUNS = Path("runs/control")


@dataclass(frozen=True)
class Row:
    """Return of an episode, and its interval."""

    mean: Float
    low: Float
    high: Float


@dataclass(frozen=True)
class Plan:
    at: Whole  # frame that it was made at
    features: list[list[Float]]  # [K, F], those of frames at + 1 and on, raw units
    std: list[list[Float]]  # [K, F]


@dataclass(frozen=True)
class Trace:
    """One episode, as it went."""

    feature_names: list[Text]  # [F], or none
    features: list[list[Float]]  # [T + 1, F], raw units
    reward: list[Float]  # [T]
    plans: list[Plan]
    predicted_reward: list[Float] | None = None  # [T]
    disagreement: list[Float] | None = None  # [T]
    seconds_per_frame: Float | None = None

    def __post_init__(self) -> None:
        frames, width = len(self.reward), len(self.features[0]) if self.features else 0
        tables = [self.features, *(each for plan in self.plans for each in (plan.features, plan.std))]
        columns = [each for each in (self.predicted_reward, self.disagreement) if each is not None]
        if not frames or len(self.features) != frames + 1 or any(len(each) != frames for each in columns):
            raise ValueError(f"{frames} rewards, {len(self.features)} frames and {[*map(len, columns)]} predictions")
        if not width or any(len(row) != width for table in tables for row in table):
            raise ValueError(f"frames or plans are not all of {width} features")
        if any(len(plan.features) != len(plan.std) or not plan.std for plan in self.plans):
            raise ValueError("a plan has another number of frames than its std, or none")

    def most_moving(self, spread: Doubles, count: int) -> list[int]:
        """Numbers of the features that move most, in multiples of `spread` [F]."""
        order = np.argsort(-np.std(self.features, axis=0) / spread, kind="stable")
        return [int(number) for number in order[:count]]

    def name(self, feature: int) -> str:
        return self.feature_names[feature] if self.feature_names else f"feature {feature}"


@dataclass(frozen=True)
class Controlled:
    """What `worldmodel control` wrote."""

    run_id: Text
    env: Text
    seed: Whole
    episodes: Whole
    steps: Whole
    rows: dict[Text, Row]
    trace: Trace
    planner: dict[Text, Any] = field(default_factory=dict)  # its settings, and how fast it decided
    leads: dict[Text, Row] = field(default_factory=dict)  # how much more the planner gets than a row, start by start
    notes: list[Text] = field(default_factory=list)

    def way(self, name: str) -> float | None:
        """Of the way from random actions to the oracle, the share that a row has gone; None without these two."""
        random, oracle = self.rows.get("random"), self.rows.get("oracle")
        if random is None or oracle is None or oracle.mean <= random.mean:
            return None
        return (self.rows[name].mean - random.mean) / (oracle.mean - random.mean)


def read_runs(run_id: str | None) -> Sequence[Controlled]:
    """Those with this bundle, by the names of their files. Raises ValueError that names a file where one is damaged."""
    found = [parsed(path, _run) for path in sorted(RUNS.glob("*.json"))]
    return [run for run in found if run.run_id == run_id]


def _run(text: str) -> Controlled:
    return checked(Controlled, json.loads(text))
