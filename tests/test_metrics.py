from dataclasses import replace

import numpy as np
import pytest

from worldmodel.arrays.windows import Labels
from worldmodel.evaluation import metrics
from worldmodel.evaluation.metrics import Episode, Scores
from worldmodel.model.baselines import FLOORS

LABELS = Labels(
    ("a", "b", "a", "b"), ("one", "two", "three", "four"), ("test",) * 4, ("observed",) * 4, ("",) * 4, (0,) * 4
)


def scores(model, weight=None, episode=None, **others):
    """Ridge errs by 2, hold-last by 4, the mean by 5, the last change by 6, unless told otherwise."""
    model = np.array(model, float)
    ones = np.ones_like(model)
    parts = {"linear": 2 * ones, "persistence": 4 * ones, "mean": 5 * ones, "last_change": 6 * ones}
    parts |= {f"log_likelihood.{name}": -values for name, values in parts.items()}
    parts |= {"model": model, "log_likelihood": -model, "covered": ones, "beyond": 0 * ones}
    return Scores(
        {name: np.array(others.get(name, values)) for name, values in parts.items()},
        weight=np.ones_like(model, np.float32) if weight is None else np.array(weight, np.float32),
        episode=np.arange(len(model)) if episode is None else np.array(episode),
    )


# Episode 0 has two windows, episodes 1 and 3 one each; the last frame of episode 3 does not exist
UNEVEN = scores(
    [[1.0, 3.0], [3.0, 5.0], [10.0, 10.0], [2.0, 99.0]], weight=[[1, 1], [1, 1], [1, 1], [1, 0]], episode=[0, 0, 1, 3]
)


def agents(found):
    return metrics.agents(metrics.episodes(found, LABELS))


def by_feature(covered=(1.0,), outside=(0.0,), **parts):
    """One row for each entry of `covered`; what is not given is 1."""
    names = ["model", "covered", "log_likelihood", *FLOORS]
    means = {name: np.array(parts.get(name, np.ones(len(covered)))) for name in names}
    alike = {name: np.ones((2, len(covered))) for name in ("readings", "covered", "model", *FLOORS)}
    found = replace(UNEVEN, features=means | {"covered": np.array(covered)}, grouped=alike)
    return metrics.features(found, [f"f{number}" for number in range(len(covered))], np.array(outside))


def quality(found, features=None):
    return metrics.quality(found, agents(found), features or by_feature())


def test_a_frame_counts_as_the_mean_over_the_features_that_are_there():
    values, there = np.array([[[1.0, 9.0], [np.nan, 9.0], [7.0, 7.0]]]), np.array([[[1, 1], [0, 1], [0, 0]]], bool)
    assert metrics.over_features(values, there).tolist() == [[5, 9, 0]]
    broken = metrics.over_features(np.full((1, 1, 2), np.nan), np.ones((1, 1, 2), bool))
    assert np.isnan(broken).all()  # what a model does not predict is not what a log misses


def test_frames_that_no_episode_reaches_have_no_mean():
    found = scores([[1.0, 2.0, 7.0]], weight=[[1, 1, 0]])
    assert found.by_frame(found["model"]).tolist() == [1, 2]
    assert set(quality(found)["mse"]) == {"mean", "h1"}


def test_a_part_of_the_windows_has_errors_of_its_own():
    assert metrics.errors(UNEVEN, np.array([3, 0])) == {"mse": 2, "linear_mse": 2}


@pytest.mark.parametrize("shape", [(5000, 3), (3000, 1), (1, 4)])
def test_blocks_give_what_all_windows_give_at_once(shape):
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=shape)
    weight = (rng.random(shape) < 0.9).astype(np.float32)
    weight[0] = 1
    episode, chosen = np.sort(rng.integers(0, 9, shape[0])), rng.permutation(shape[0])[: shape[0] // 2 + 1]
    found, whole = scores(values, weight=weight, episode=episode), values * weight
    assert found.mean(values) == pytest.approx(whole.sum() / weight.sum(), rel=1e-12)
    assert found.mean(values, chosen) == pytest.approx(whole[chosen].sum() / weight[chosen].sum(), rel=1e-12)
    assert found.by_frame(values) == pytest.approx(whole.sum(axis=0) / weight.sum(axis=0), rel=1e-12)
    total, weights = (np.bincount(episode, part.sum(axis=1)) for part in (whole, weight))
    assert found.by_episode(values) == {each: total[each] / weights[each] for each in set(episode.tolist())}


def test_episodes_without_a_reading_to_predict_have_no_mean_and_the_horizon_ends_before_a_frame_without():
    found = scores(
        [[1.0, 0.0, 4.0], [3.0, 0.0, 4.0], [9, 9, 9]], weight=[[1, 0, 0.5], [1, 0, 0.5], [0, 0, 0]], episode=[0, 0, 2]
    )
    assert found.by_frame(found["model"]).tolist() == [2]
    assert found.by_episode(found["model"]) == {0: (4 + 0.5 * 8) / 3}


def test_an_episode_has_the_errors_of_its_own_windows_and_their_number():
    floors = {"linear": 2, "persistence": 4, "mean": 5, "last_change": 6}
    assert metrics.episodes(UNEVEN, LABELS) == [
        Episode(0, "test", "a", "one", 2, 3, floors),
        Episode(1, "test", "b", "two", 1, 10, floors),
        Episode(3, "test", "b", "four", 1, 2, floors),
    ]


def test_an_agent_is_the_mean_over_its_episodes_and_not_over_their_windows():
    long_and_short = scores([[1.0], [1.0], [1.0], [5.0]], episode=[0, 0, 0, 2])
    (agent,) = agents(long_and_short)
    assert (agent.agent_id, agent.episodes, agent.model) == ("a", 2, 3)
    assert (agent.worst.number, agent.worst.name, agent.worst.model) == (2, "three", 5)


def test_agents_stand_worst_first_with_their_floors():
    found = agents(UNEVEN)
    assert [(agent.agent_id, agent.model) for agent in found] == [("b", 6), ("a", 3)]
    assert [agent.floors for agent in found] == [{"linear": 2, "persistence": 4, "mean": 5, "last_change": 6}] * 2
    assert [agent.worst.name for agent in found] == ["two", "one"]


def test_quality_is_what_its_parts_say():
    found = quality(UNEVEN)
    error = 34 / 7
    assert found == {
        "mse": {"mean": pytest.approx(error), "h1": 4},
        "baseline": {
            "linear": {"mse": 2, "log_likelihood": -2},
            "persistence": {"mse": 4, "log_likelihood": -4},
            "mean": {"mse": 5, "log_likelihood": -5},
            "last_change": {"mse": 6, "log_likelihood": -6},
        },
        "skill": {
            "vs_linear": pytest.approx(1 - error / 2),
            "vs_persistence": pytest.approx(1 - error / 4),
            "vs_best": pytest.approx(1 - error / 2),
        },
        "log_likelihood": pytest.approx(-error),
        "coverage": {"p90": 1, "h1": 1, "worst_feature": 1},
        "tails": {"beyond_10": 0},
        "discrepancy": {"mean": 4.5, "worst": 6},
    }


def test_skill_is_0_where_there_is_nothing_to_explain():
    nothing = np.zeros((2, 4))
    found = scores(nothing, linear=nothing, persistence=nothing)
    assert quality(found)["skill"] == {"vs_linear": 0, "vs_persistence": 0, "vs_best": 0}


@pytest.mark.parametrize("floor", [0.0, 5e-324, 1e-300, 1e-14])
def test_skill_is_0_where_a_floor_errs_by_rounding_alone_and_the_model_does_not(floor):
    nothing = np.full((2, 4), floor)
    found = quality(scores(np.ones((2, 4)), linear=nothing, persistence=nothing))
    assert found["skill"] == {"vs_linear": 0, "vs_persistence": 0, "vs_best": 0}


@pytest.mark.parametrize(
    ("horizon", "marks"),
    [(1, ["h1"]), (3, ["h1"]), (4, ["h1", "h4"]), (9, ["h1", "h4", "h8"]), (33, ["h1", "h4", "h8", "h16", "h32"])],
)
def test_errors_are_told_at_1_4_8_16_frames_as_far_as_the_horizon_goes(horizon, marks):
    found = scores([np.arange(1.0, horizon + 1)])
    mse = quality(found)["mse"]
    assert mse == {"mean": (horizon + 1) / 2} | {mark: int(mark[1:]) for mark in marks}


def test_coverage_is_told_as_a_whole_and_at_the_marks_of_the_error():
    found = quality(scores(np.zeros((2, 4)), covered=[[1, 1, 0.5, 0.5], [0, 1, 0.5, 0.5]]))
    assert found["coverage"] == {"p90": 0.625, "h1": 0.5, "h4": 0.5, "worst_feature": 1}


@pytest.mark.parametrize(("held", "worst"), [([0.9, 0.95, 0.86], 0.95), ([0.2, 1.0], 0.2), ([0.9], 0.9)])
def test_the_feature_whose_coverage_is_farthest_from_what_was_asked_for_is_told(held, worst):
    found = quality(UNEVEN, by_feature(covered=held, outside=[0] * len(held)))
    assert found["coverage"]["worst_feature"] == worst


def test_a_feature_has_its_skill_over_the_floor_that_is_best_for_it():
    nan = float("nan")
    parts = {"model": [2.0, nan, 3.0], "log_likelihood": [nan, nan, -1], "linear": [4, nan, 8], "mean": [9, nan, 4]}
    parts |= {"persistence": [5, nan, 9], "last_change": [6, nan, 9]}
    worst, other = by_feature(covered=[1.0, nan, 0.5], outside=[0, 0, 0.25], **parts)
    assert (worst.name, worst.best, worst.skill, worst.outside) == ("f2", "mean", 0.25, 0.25)
    assert (other.name, other.best, other.skill, other.log_likelihood) == ("f0", "linear", 0.5, None)
