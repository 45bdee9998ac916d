import numpy as np
import pytest
import torch
from torch.distributions import Normal

from worldmodel.arrays.windows import Labels
from worldmodel.evaluation import metrics
from worldmodel.evaluation.metrics import Episode, Scores
from worldmodel.model.calibration import NORMAL_90

W, K, F = 3, 4, 2
LABELS = Labels(
    ("a", "b", "a", "b"), ("one", "two", "three", "four"), ("test",) * 4, ("observed",) * 4, ("",) * 4, (0,) * 4
)


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scores(model, weight=None, episode=None, **others):
    model = np.array(model, float)
    return Scores(
        model=model,
        persistence=np.array(others.get("persistence", 4 * np.ones_like(model))),
        linear=np.array(others.get("linear", 2 * np.ones_like(model))),
        log_likelihood=np.array(others.get("log_likelihood", -model)),
        covered=np.array(others.get("covered", np.ones_like(model))),
        weight=np.ones_like(model, np.float32) if weight is None else np.array(weight, np.float32),
        episode=np.arange(len(model)) if episode is None else np.array(episode),
    )


# Episode 0 has two windows, episodes 1 and 3 one each; the last frame of episode 3 does not exist
UNEVEN = scores(
    [[1.0, 3.0], [3.0, 5.0], [10.0, 10.0], [2.0, 99.0]], weight=[[1, 1], [1, 1], [1, 1], [1, 0]], episode=[0, 0, 1, 3]
)


def agents(found):
    return metrics.agents(metrics.episodes(found, LABELS))


def quality(found):
    return metrics.quality(found, agents(found))


def test_a_frame_counts_as_the_mean_over_the_features_that_are_there():
    values, there = np.array([[[1.0, 9.0], [np.nan, 9.0], [7.0, 7.0]]]), np.array([[[1, 1], [0, 1], [0, 0]]], bool)
    assert metrics.over_features(values, there).tolist() == [[5, 9, 0]]
    broken = metrics.over_features(np.full((1, 1, 2), np.nan), np.ones((1, 1, 2), bool))
    assert np.isnan(broken).all()  # what a model does not predict is not what a log misses


def test_likelihood_is_the_normal_distributions():
    predicted, real, std = values(W, K, F), values(W, K, F, seed=1), np.exp(values(W, K, F, seed=2))
    expected = Normal(torch.from_numpy(predicted), torch.from_numpy(std)).log_prob(torch.from_numpy(real))
    np.testing.assert_allclose(metrics.log_likelihood(predicted - real, std), expected.numpy(), rtol=1e-4)


def test_nine_tenths_of_normal_numbers_are_covered():
    real = values(2000, 5, 4)
    assert metrics.covered(real, np.ones_like(real)).mean() == pytest.approx(0.9, abs=0.005)
    half_width = Normal(0, 1).icdf(torch.tensor(0.95)).item()
    assert NORMAL_90 == pytest.approx(half_width)  # noqa: SIM300


def test_frames_that_no_episode_reaches_have_no_mean():
    found = scores([[1.0, 2.0, 7.0]], weight=[[1, 1, 0]])
    assert found.by_frame(found.model).tolist() == [1, 2]
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
    assert found.by_frame(found.model).tolist() == [2]
    assert found.by_episode(found.model) == {0: (4 + 0.5 * 8) / 3}


def test_an_episode_has_the_errors_of_its_own_windows_and_their_number():
    assert metrics.episodes(UNEVEN, LABELS) == [
        Episode(0, "test", "a", "one", 2, 3, 2, 4),
        Episode(1, "test", "b", "two", 1, 10, 2, 4),
        Episode(3, "test", "b", "four", 1, 2, 2, 4),
    ]


def test_an_agent_is_the_mean_over_its_episodes_and_not_over_their_windows():
    long_and_short = scores([[1.0], [1.0], [1.0], [5.0]], episode=[0, 0, 0, 2])
    (agent,) = agents(long_and_short)
    assert (agent.agent_id, agent.episodes, agent.model) == ("a", 2, 3)
    assert (agent.worst.number, agent.worst.name, agent.worst.model) == (2, "three", 5)


def test_agents_stand_worst_first_with_their_floors():
    found = agents(UNEVEN)
    assert [(agent.agent_id, agent.model) for agent in found] == [("b", 6), ("a", 3)]
    assert [(agent.linear, agent.persistence) for agent in found] == [(2, 4), (2, 4)]
    assert [agent.worst.name for agent in found] == ["two", "one"]


def test_quality_is_what_its_parts_say():
    found = quality(UNEVEN)
    error = 34 / 7
    assert found == {
        "mse": {"mean": pytest.approx(error), "h1": 4},
        "baseline": {"persistence": {"mse": 4}, "linear": {"mse": 2}},
        "skill": {"vs_linear": pytest.approx(1 - error / 2), "vs_persistence": pytest.approx(1 - error / 4)},
        "log_likelihood": pytest.approx(-error),
        "coverage": {"p90": 1, "h1": 1},
        "discrepancy": {"mean": 4.5, "worst": 6},
    }


def test_skill_is_0_where_there_is_nothing_to_explain():
    nothing = np.zeros((2, 4))
    found = scores(nothing, linear=nothing, persistence=nothing)
    assert quality(found)["skill"] == {"vs_linear": 0, "vs_persistence": 0}


@pytest.mark.parametrize("floor", [0.0, 5e-324, 1e-300, 1e-14])
def test_skill_is_0_where_a_floor_errs_by_rounding_alone_and_the_model_does_not(floor):
    nothing = np.full((2, 4), floor)
    found = quality(scores(np.ones((2, 4)), linear=nothing, persistence=nothing))
    assert found["skill"] == {"vs_linear": 0, "vs_persistence": 0}


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
    assert found["coverage"] == {"p90": 0.625, "h1": 0.5, "h4": 0.5}


def test_all_is_finite_where_a_spread_is_tiny():
    found = metrics.log_likelihood(np.ones((1, 1, 1)), np.full((1, 1, 1), 1e-6, np.float32))
    assert np.isfinite(found).all()
