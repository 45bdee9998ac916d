"""From measured numbers to a verdict: what is said, and that chance alone is called nothing."""

from dataclasses import replace

import numpy as np
import pytest

from worldmodel.evaluation.intervals import standard_error
from worldmodel.evaluation.metrics import Feature
from worldmodel.evaluation.verdict import REASONS, Evidence, judge
from worldmodel.model.baselines import FLOORS

HEIGHT = Feature("height (m)", 0.1, dict.fromkeys(FLOORS, 0.2), 0.9, 0.5, 0.0, 0.05, 0.01)
METRICS = {
    "skill.vs_best": 0.5,
    "coverage.p90": 0.9,
    "log_likelihood": 0.5,
    "dreams.realism": 0.6,
    "outside.share": 0.02,
    "onnx.equivalent": 1,
    "onnx.max_abs_diff": 2e-5,
    **{f"baseline.{name}.mse": 0.3 for name in FLOORS},
    "baseline.persistence.mse": 0.2,
    "baseline.linear.log_likelihood": -0.5,
}
FLOORS_ON_VAL = dict.fromkeys(FLOORS, 0.3) | {"persistence": 0.2}
GOOD = Evidence(
    metrics=METRICS,
    features=[HEIGHT, replace(HEIGHT, name="speed")],
    skill_error=0.05,
    covered_error=0.01,
    tests=11,
    vals=9,
    selected={"step": 300, "val_mse": 0.1, "floors": FLOORS_ON_VAL},
    by_sign={"states": 0.55, "changes": 0.6, "response": 0.5},
)


def found(metrics=None, **changes):
    """Of GOOD, but for these metrics and these fields."""
    return judge(replace(GOOD, metrics=METRICS | (metrics or {}), **changes))


def held(verdict):
    return [name for name, holds in verdict.numbers.items() if holds]


def test_where_nothing_speaks_against_it_the_verdict_is_one_line():
    verdict = found()
    assert (verdict.lines, held(verdict)) == (["verdict: good"], ["ok"])
    assert list(verdict.numbers) == ["ok", *REASONS]


TRACK = replace(HEIGHT, name="track", model=0.27, covered=0.78, outside=0.3)
KEPT = {"step": 0, "val_mse": 0.2, "floors": FLOORS_ON_VAL}
NOTED = "good, with 1 to note"
CASES = {  # reason -> metrics and fields that differ from GOOD, the verdict, and a part of what is said
    "worse_than_floor": [
        ({"skill.vs_best": -0.5}, {}, "use hold-last: the model is worse", "50.0% above that of hold-last"),
        ({}, {"features": [HEIGHT, replace(TRACK, covered=0.9)]}, NOTED, "in 1 of 2 features: track 35% above ridge"),
    ],
    "training_improved_nothing": [
        ({}, {"selected": KEPT}, NOTED, "no step of the training did better on the val episodes than its start"),
        ({}, {"selected": KEPT | {"val_mse": 0.15}}, NOTED, "its error is 0.15, that of hold-last alone 0.2"),
        ({}, {"selected": KEPT | {"step": 9}}, NOTED, "on the val episodes the error is 0.2, that of hold-last 0.2"),
    ],
    "too_few_episodes": [
        ({}, {"tests": 2}, "not known: too few test episodes", "2 test episodes cannot tell, it takes 3"),
        (
            {"skill.vs_best": 0.05},
            {},
            "not known: too few test episodes",
            "cannot tell, it takes about 44: a skill of 5.0%",
        ),
        ({}, {"vals": 1}, NOTED, "1 val episode to choose weights"),
    ],
    "onnx_differs": [({"onnx.equivalent": 0}, {}, "do not deploy it: ONNX differs", "by 2e-05")],
    "likelihood_below_ridge": [
        (
            {"log_likelihood": -3.3},
            {},
            "trust its means, not its std: the likelihood is below ridge's",
            "is -3.30 nats",
        ),
    ],
    "coverage_off": [
        (
            {"coverage.p90": 0.84},
            {},
            "trust its means, not its std: it is off",
            "84.0%, give or take 2.0%: std is too small",
        ),
        ({}, {"features": [HEIGHT, replace(TRACK, model=0.1)]}, NOTED, "in 1 of 2 features: they hold track 78%"),
    ],
    "dreams_told": [
        (
            {"dreams.realism": 0.98},
            {"by_sign": {"states": 0.6, "response": 0.97}},
            NOTED,
            "response alone (0.97): they ans",
        ),
    ],
    "outside_range": [
        (
            {"outside.share": 0.35},
            {"features": [HEIGHT, replace(HEIGHT, name="x", outside=0.3)]},
            NOTED,
            "feature: x 30%",
        ),
    ],
}


@pytest.mark.parametrize("name", REASONS)
def test_each_reason_says_the_numbers_where_and_what_follows(name):
    for metrics, changes, line, text in CASES[name]:
        verdict = found(metrics, **changes)
        assert held(verdict) == (["ok"] if line == NOTED else []) + [name]
        assert verdict.line == line
        assert text in verdict.lines[1]


def test_where_nothing_is_gained_it_says_what_to_use_instead():
    kept = {"selected": {"step": 0, "val_mse": 0.2}, "features": []}
    verdict = found({"skill.vs_best": -0.002}, **kept)
    assert verdict.line == "use hold-last: training improved nothing"
    assert held(verdict) == ["training_improved_nothing", "too_few_episodes"]
    assert found({"skill.vs_best": -0.002}).line == "use hold-last: the model is not better"


def test_what_no_run_knows_is_no_reason():
    fewer = {name: value for name, value in METRICS.items() if name not in ("dreams.realism", "outside.share")}
    bare = replace(GOOD, metrics=fewer, by_sign={}, selected={"step": 12, "val_mse": None})
    assert judge(bare).lines == ["verdict: good"]


def test_few_episodes_make_nothing_of_what_chance_explains():
    off = replace(HEIGHT, covered=0.78, model=0.23, covered_error=0.05, skill_error=0.2)
    verdict = found({"coverage.p90": 0.84, "skill.vs_best": 0.5}, features=[off], covered_error=0.02)
    assert held(verdict) == ["ok"]


def test_of_good_models_few_are_called_off_and_of_bad_ones_most():
    """Episodes whose coverage differs by 0.05: of 17 features none is off, or each by 0.2."""
    rng = np.random.default_rng(0)
    for episodes in (3, 8, 30):
        called = {0.9: 0, 0.7: 0}
        for truth in called:
            for _ in range(100):
                weight = rng.integers(50, 400, (episodes, 17)).astype(float)
                share = np.clip(truth + 0.05 * rng.standard_normal((episodes, 17)), 0, 1)
                error = standard_error(share * weight, weight, usual=0.1)
                mean = (share * weight).sum(axis=0) / weight.sum(axis=0)
                rows = [replace(HEIGHT, covered=one, covered_error=of) for one, of in zip(mean, error, strict=True)]
                called[truth] += "coverage_off" in held(found(features=rows))
        assert called[0.9] <= 2, episodes
        assert called[0.7] >= (30 if episodes == 3 else 98), episodes


def test_one_episode_has_an_error_too_and_none_alike_make_it_sure():
    assert standard_error(np.array([[9.0]]), np.array([[10.0]]), usual=0.1) == pytest.approx(0.1)
    same = np.full((4, 1), 9.0)
    assert standard_error(same, same, usual=0.1) == pytest.approx(0.025)
