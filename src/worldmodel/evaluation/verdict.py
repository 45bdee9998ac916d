"""What the measured numbers say of the model, in words: one line, and each reason that speaks against it.

A number is only called off where it is so by more than the test episodes, which are few, differ by chance.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worldmodel.evaluation.metrics import NOMINAL, Feature, best_floor
from worldmodel.model.baselines import FLOORS

SURE, SURE_OF_ONE = 2, 3  # standard errors; of one feature, which is the worst of many
FEW = 3  # episodes; fewer do not show how they differ
WORSE = 0.02  # of a floor's error, for one feature
OFF, OFF_IN_ONE = 0.03, 0.06  # of the share that the intervals should hold; in one feature
TOLD = 0.9  # AUC
FAR = 0.1  # share of test frames
NAMED = 3  # features in a text
DREAMS = {  # sign that betrays them -> what to change
    "states": "they go where the log does not: lower dreams.length, dreams.start_noise or dreams.action_noise",
    "changes": "they move too little or too much: raise dreams.teacher.steps, or log more train episodes",
    "response": "they answer to actions as the log does not: lower dreams.action_noise, or log more train episodes",
}


@dataclass(frozen=True)
class Evidence:
    metrics: Mapping[str, float]  # dotted name -> value, as in metrics.json
    features: Sequence[Feature]
    skill_error: float  # standard error of skill.vs_best over the test episodes
    covered_error: float  # of coverage.p90
    tests: int  # episodes
    vals: int
    selected: Mapping[str, Any]  # of the manifest: step, val_mse and, where known, floors
    by_sign: Mapping[str, float]  # AUC of each sign of a dream alone

    @property
    def skill(self) -> float:
        return self.metrics["skill.vs_best"]

    @property
    def floor(self) -> str:
        """The one that does best on the test episodes."""
        return FLOORS[best_floor({name: self.metrics[f"baseline.{name}.mse"] for name in FLOORS})]


@dataclass(frozen=True)
class Reason:
    name: str
    text: str = ""  # none where it does not hold
    verdict: str = ""  # none where the model may be trusted all the same


@dataclass(frozen=True)
class Verdict:
    reasons: Sequence[Reason]  # the gravest first

    @property
    def line(self) -> str:
        against = [each.verdict for each in self.reasons if each.verdict]
        remarks = sum(bool(each.text) for each in self.reasons)
        return against[0] if against else f"good, with {remarks} to note" if remarks else "good"

    @property
    def rows(self) -> list[tuple[str, int, str]]:
        """Name, whether it holds, and what is to be said; first whether the model is to be trusted."""
        ok = ("ok", int(not any(each.verdict for each in self.reasons)), self.line)
        return [ok, *((each.name, int(bool(each.text)), each.text) for each in self.reasons)]

    @property
    def numbers(self) -> dict[str, int]:
        return {name: holds for name, holds, _ in self.rows}

    @property
    def lines(self) -> list[str]:
        """As they are printed."""
        return [f"verdict: {self.line}", *(f"- {each.text}" for each in self.reasons if each.text)]


def judge(evidence: Evidence) -> Verdict:
    return Verdict([Reason(name, *find(evidence)) for name, find in REASONS.items()])


Found = tuple[()] | tuple[str] | tuple[str, str]  # nothing, text, or text and verdict


def _worse_than_floor(found: Evidence) -> Found:
    if found.skill + SURE * found.skill_error < 0:
        text = f"the error is {-found.skill:.1%} above that of {found.floor}, give or take {_margin(found)}"
        return f"{text}: log more train episodes like those of the test", f"use {found.floor}: the model is worse"
    worse = [each for each in found.features if each.skill < -WORSE - SURE_OF_ONE * each.skill_error]
    named = _named(worse, lambda each: f"{-each.skill:.0%} above {FLOORS[each.best]}", key=lambda each: each.skill)
    return (f"worse than a floor in {len(worse)} of {len(found.features)} features: {named}",) if worse else ()


def _training_improved_nothing(found: Evidence) -> Found:
    error, floors = found.selected.get("val_mse"), found.selected.get("floors") or {}
    best = min(floors, key=floors.__getitem__, default=None)
    if error is None or (found.selected["step"] and (best is None or error < floors[best])):
        return ()
    if best is not None and error < (1 - WORSE) * floors[best]:
        return (
            "no step of the training did better on the val episodes than its start, the best floor of each feature: "
            f"its error is {error:.4g}, that of {FLOORS[best]} alone {floors[best]:.4g}",
        )
    text = "no step of the training did better on the val episodes than its start, which was kept"
    if found.selected["step"] and best is not None:
        text = f"on the val episodes the error is {error:.4g}, that of {FLOORS[best]} {floors[best]:.4g}"
    better = found.skill > SURE * found.skill_error
    return (text,) if better else (text, f"use {found.floor}: training improved nothing")


def _too_few_episodes(found: Evidence) -> Found:
    unknown = f"use {found.floor}: the model is not better" if found.skill <= 0 else "not known: too few test episodes"
    if found.tests < FEW:
        text = (
            f"{_count(found.tests, 'test')} cannot tell, it takes {FEW} at least: raise prepare.test_share, or log more"
        )
        return text, unknown
    if abs(found.skill) <= SURE * found.skill_error:
        told = f"a skill of {found.skill:.1%} over {found.floor}, give or take {_margin(found)}"
        if found.skill <= 0:
            return f"{_count(found.tests, 'test')} show no gain: {told}", unknown
        needed = math.ceil(found.tests * (SURE * found.skill_error / found.skill) ** 2)
        return f"{_count(found.tests, 'test')} cannot tell, it takes about {needed:,}: {told}", unknown
    if found.vals < FEW:
        return (f"{_count(found.vals, 'val')} to choose weights and std on, expected {FEW}: raise prepare.val_share",)
    return ()


def _onnx_differs(found: Evidence) -> Found:
    if found.metrics["onnx.equivalent"]:
        return ()
    text = f"ONNX differs from PyTorch by {found.metrics['onnx.max_abs_diff']:.0e} standard deviations"
    return f"{text}: try another export.opset, or raise validate.tolerance", "do not deploy it: ONNX differs"


def _likelihood_below_ridge(found: Evidence) -> Found:
    nats, ridge = found.metrics["log_likelihood"], found.metrics["baseline.linear.log_likelihood"]
    if nats >= ridge:
        return ()
    text = f"the log-likelihood is {nats:.2f} nats a feature, that of ridge with a constant spread {ridge:.2f}"
    return f"{text}: do not plan by std", "trust its means, not its std: the likelihood is below ridge's"


def _coverage_off(found: Evidence) -> Found:
    share = found.metrics["coverage.p90"]
    if abs(share - NOMINAL) > OFF + SURE * found.covered_error:
        size = "small" if share < NOMINAL else "large"
        text = f"90 % intervals hold {share:.1%}, give or take {SURE * found.covered_error:.1%}: std is too {size}"
        return f"{text}; it is scaled on val episodes: log more of them", "trust its means, not its std: it is off"
    off = [
        each
        for each in found.features
        if each.log_likelihood is not None
        and abs(each.covered - NOMINAL) > OFF_IN_ONE + SURE_OF_ONE * each.covered_error
    ]
    named = _named(off, lambda each: f"{each.covered:.0%}", key=lambda each: -abs(each.covered - NOMINAL))
    return (
        (f"90 % intervals are off in {len(off)} of {len(found.features)} features: they hold {named}",) if off else ()
    )


def _dreams_told(found: Evidence) -> Found:
    auc = found.metrics.get("dreams.realism", 0.0)
    if auc <= TOLD:
        return ()
    sign = max(found.by_sign, key=found.by_sign.__getitem__)
    text = f"a classifier tells dreams from the log (AUC {auc:.2f}), most by {sign} alone ({found.by_sign[sign]:.2f})"
    return (f"{text}: {DREAMS[sign]}; compare with train.rho=0",)


def _outside_range(found: Evidence) -> Found:
    share = found.metrics.get("outside.share", 0.0)
    if share <= FAR:
        return ()
    named = _named(found.features, lambda each: f"{each.outside:.0%}", key=lambda each: -each.outside)
    return (f"{share:.0%} of the test frames are outside of the train range, by feature: {named}; train on such ones",)


REASONS: Mapping[str, Callable[[Evidence], Found]] = {
    "worse_than_floor": _worse_than_floor,
    "training_improved_nothing": _training_improved_nothing,
    "too_few_episodes": _too_few_episodes,
    "onnx_differs": _onnx_differs,
    "likelihood_below_ridge": _likelihood_below_ridge,
    "coverage_off": _coverage_off,
    "dreams_told": _dreams_told,
    "outside_range": _outside_range,
}


def _named(features: Sequence[Feature], tell: Callable[[Feature], str], key: Callable[[Feature], float]) -> str:
    told = [f"{each.name} {tell(each)}" for each in sorted(features, key=key)[:NAMED]]
    return ", ".join(told) + (", ..." if len(features) > NAMED else "")


def _margin(found: Evidence) -> str:
    return f"{SURE * found.skill_error:.1%}"


def _count(number: int, split: str) -> str:
    return f"{number} {split} episode{'' if number == 1 else 's'}"
