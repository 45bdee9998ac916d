"""Metrics of open-loop predictions on held-out windows: error, likelihood, coverage, skill, discrepancy by agent.

All errors in standard deviations of the observed train frames, squared; readings that are missing count nowhere.
Dimension key: W windows, K horizon, F features.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.mapped import release
from worldmodel.arrays.moments import total, total_of_all
from worldmodel.arrays.windows import Labels
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.evaluation.intervals import standard_error
from worldmodel.model.baselines import FLOORS

NOMINAL = 0.9  # share of readings that the intervals should hold
ROUNDING = 1e-12  # squared error that float32 makes of numbers about 1
BLOCK = 1 << 10  # windows at once


def over_features(values: Doubles, there: NDArray[np.bool_]) -> Doubles:
    """Mean of those that are there, [W, K, F] -> [W, K]; 0 where none is."""
    mean: Doubles = np.where(there, values, 0).sum(axis=2) / np.maximum(there.sum(axis=2), 1)
    return mean


@dataclass(frozen=True)
class Scores:
    """What was measured on each held-out window; the arrays may be mapped files, which are gone over in blocks.

    Its parts: `model` and each of FLOORS, squared errors; `log_likelihood` and `log_likelihood.FLOOR`, nats;
    `covered`, 1 within the 90 % interval; `beyond`, 1 farther than TAIL standard deviations.
    """

    parts: Mapping[str, Doubles]  # each [W, K], mean over the features that are there
    weight: Floats  # [W, K] share of the features that are there; 0 where the frame does not exist
    episode: NDArray[np.int64]  # [W]
    features: Mapping[str, Doubles] = field(default_factory=dict)  # part -> mean of each feature, [F]; NaN without any
    grouped: Mapping[str, Doubles] = field(default_factory=dict)  # part, readings -> sums by group of episodes, [N, F]
    told: Mapping[str, Floats] = field(default_factory=dict)  # of each frame, [W, K]; see scoring

    def __getitem__(self, part: str) -> Doubles:
        return self.parts[part]

    def mean(self, values: Doubles, chosen: Ints | None = None) -> float:
        """Over all windows, or over some; 0 where these have no readings to predict."""
        summed = total_of_all(part for _, part in self._weighted(values, chosen))
        weight = math.fsum(weight.sum() for weight, _ in self._weighted(values, chosen))
        return summed / max(weight, np.finfo(float).tiny)

    def by_frame(self, values: Doubles) -> Doubles:
        """Mean over windows for each frame of the horizon up to the first that none has readings of, [K] or fewer."""
        weight: Doubles = np.sum([part.sum(axis=0) for part, _ in self._weighted(values)], axis=0, dtype=np.float64)
        reached = int((weight > 0).cumprod().sum())
        summed = total(part[:, :reached] for _, part in self._weighted(values))
        means: Doubles = summed / weight[:reached]
        return means

    def by_window(self, values: Reals) -> Doubles:
        """Mean over the frames of each window, [W]; NaN where it has no readings to predict."""
        rows = [(part.sum(axis=1, dtype=np.float64), weight.sum(axis=1)) for weight, part in self._weighted(values)]
        summed, weight = (np.concatenate(each) for each in zip(*rows, strict=True))
        return np.where(weight > 0, summed / np.maximum(weight, np.finfo(np.float32).tiny), np.nan)

    def by_episode(self, values: Doubles) -> dict[int, float]:
        """Mean over the windows of each episode that has any readings to predict."""
        counts = self.windows
        summed, weight, done = np.zeros(len(counts)), np.zeros(len(counts)), 0
        for weights, part in self._weighted(values):
            episode = self.episode[done : done + len(part)]
            np.add.at(summed, episode, part.sum(axis=1))
            np.add.at(weight, episode, weights.sum(axis=1).astype(np.float64))
            done += len(part)
        return {episode: float(summed[episode] / weight[episode]) for episode in np.flatnonzero(weight).tolist()}

    def skill_error(self, floor: str) -> Doubles:
        """Standard error over episodes of the skill over a floor, of each feature and last of all of them, [F + 1]"""
        return self._ratio_error("model", floor, usual=0.2)

    @property
    def covered_error(self) -> Doubles:
        """Of the share that the intervals hold, [F + 1]"""
        return self._ratio_error("covered", "readings", usual=0.1)

    def _ratio_error(self, part: str, base: str, usual: float) -> Doubles:
        sums, weight = (np.c_[each, each.sum(axis=1)] for each in (self.grouped[part], self.grouped[base]))
        return standard_error(sums, weight, usual)

    @property
    def windows(self) -> Ints:
        """How many each episode has, [E] up to the last one that has any."""
        counts: Ints = np.bincount(self.episode)
        return counts

    def _weighted(self, values: Reals, chosen: Ints | None = None) -> Iterator[tuple[Floats, Doubles]]:
        """Weights, and the values times these, of a block of windows after the other."""
        for begin in range(0, len(values) if chosen is None else len(chosen), BLOCK):
            rows = slice(begin, begin + BLOCK) if chosen is None else chosen[begin : begin + BLOCK]
            weight = np.asarray(self.weight[rows])
            yield weight, np.asarray(values[rows], np.float64) * weight
            release((values, self.weight))


@dataclass(frozen=True)
class Episode:
    """Mean squared errors over all windows of a held-out episode."""

    number: int  # among the packed ones
    split: str
    agent_id: str
    name: str
    windows: int
    model: float
    floors: Mapping[str, float]


def episodes(scores: Scores, labels: Labels) -> list[Episode]:
    """One row an episode with held-out windows, as they are packed."""
    errors = {name: scores.by_episode(scores[name]) for name in ("model", *FLOORS)}
    counts = scores.windows
    return [
        Episode(
            episode,
            labels.splits[episode],
            labels.agents[episode],
            labels.names[episode],
            int(counts[episode]),
            error,
            {name: errors[name][episode] for name in FLOORS},
        )
        for episode, error in errors["model"].items()
    ]


@dataclass(frozen=True)
class Agent:
    """How far predictions are from what one agent really saw: means over its episodes, and the worst of these."""

    agent_id: str
    episodes: int
    model: float
    floors: Mapping[str, float]
    worst: Episode


def agents(by_episode: Sequence[Episode]) -> list[Agent]:
    """One row an agent with held-out windows, worst first."""
    rows = []
    for agent_id in sorted({row.agent_id for row in by_episode}):
        own = [row for row in by_episode if row.agent_id == agent_id]
        floors = {name: float(np.mean([row.floors[name] for row in own])) for name in FLOORS}
        model = float(np.mean([row.model for row in own]))
        rows.append(Agent(agent_id, len(own), model, floors, max(own, key=lambda row: row.model)))
    return sorted(rows, key=lambda row: -row.model)


@dataclass(frozen=True)
class Feature:
    """Means over the held-out readings of one feature."""

    name: str  # and its unit
    model: float  # squared error
    floors: Mapping[str, float]  # squared errors
    covered: float  # share of readings
    log_likelihood: float | None  # nats; None of a category
    outside: float  # share of its test readings that are outside of the range of the train frames
    skill_error: float  # standard errors over episodes
    covered_error: float

    @property
    def best(self) -> str:
        """The floor that errs least."""
        return best_floor(self.floors)

    @property
    def skill(self) -> float:
        """Over its best floor."""
        return skill(self.model, self.floors[self.best])


def features(scores: Scores, names: Sequence[str], outside: Doubles) -> list[Feature]:
    """One row a feature that has held-out readings, worst first."""
    columns = {part: means.tolist() for part, means in scores.features.items()}
    best = [best_floor({floor: columns[floor][at] for floor in FLOORS}) for at in range(len(names))]
    skill_errors, covered_error = {floor: scores.skill_error(floor) for floor in FLOORS}, scores.covered_error
    rows = [
        Feature(
            name,
            columns["model"][at],
            {floor: columns[floor][at] for floor in FLOORS},
            columns["covered"][at],
            None if math.isnan(nats := columns["log_likelihood"][at]) else nats,
            float(outside[at]),
            float(skill_errors[best[at]][at]),
            float(covered_error[at]),
        )
        for at, name in enumerate(names)
        if not math.isnan(columns["model"][at])
    ]
    return sorted(rows, key=lambda row: -row.model)


def quality(scores: Scores, by_agent: Sequence[Agent], by_feature: Sequence[Feature]) -> dict[str, Any]:
    """The part of metrics.json that says how well the model predicts."""
    mean = {part: scores.mean(values) for part, values in scores.parts.items()}
    model, held = mean["model"], [feature.covered for feature in by_feature]
    best = mean[best_floor(mean)]
    return {
        "mse": {"mean": model} | dict(_marks(scores.by_frame(scores["model"]))),
        "baseline": {name: {"mse": mean[name], "log_likelihood": mean[f"log_likelihood.{name}"]} for name in FLOORS},
        "skill": {
            "vs_linear": skill(model, mean["linear"]),
            "vs_persistence": skill(model, mean["persistence"]),
            "vs_best": skill(model, best),
        },
        "log_likelihood": mean["log_likelihood"],
        "coverage": {"p90": mean["covered"]}
        | dict(_marks(scores.by_frame(scores["covered"])))
        | {"worst_feature": max(held, key=lambda share: abs(share - NOMINAL))},
        "tails": {"beyond_10": mean["beyond"]},
        "discrepancy": {
            "mean": float(np.mean([agent.model for agent in by_agent])),
            "worst": max(agent.model for agent in by_agent),
        },
    }


def errors(scores: Scores, chosen: Ints | None = None, floors: Sequence[str] = ("linear",)) -> dict[str, float]:
    """Of the model and of some floors, on all or some of the windows."""
    of_floors = {f"{name}_mse": scores.mean(scores[name], chosen) for name in floors}
    return {"mse": scores.mean(scores["model"], chosen)} | of_floors


def best_floor(errors: Mapping[str, float]) -> str:
    """The one of FLOORS that errs least."""
    return min(FLOORS, key=errors.__getitem__)


def skill(model: float, baseline: float) -> float:
    """Share of the baseline's error that the model explains; 0 where there is nothing to explain but rounding."""
    return 1 - model / baseline if baseline > ROUNDING else 0.0


def _marks(by_frame: Doubles) -> Iterator[tuple[str, float]]:
    """h1, h4, h8, h16, h32, ... as far as the horizon goes."""
    marks = [1, *(2**power for power in range(2, len(by_frame).bit_length()))]
    return ((f"h{frame}", float(by_frame[frame - 1])) for frame in marks if frame <= len(by_frame))
