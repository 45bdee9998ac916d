"""A policy learns in a model that is known to do what earns most there, and what that is worth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from factories import make_scaler, make_train
from projects import make_project, observed_and_dreams
from worldmodel import Planner
from worldmodel.arrays.affine import Affine
from worldmodel.model import policy_training
from worldmodel.model.policy import Policy
from worldmodel.model.policy_training import Starts, train_policy, trained_policy
from worldmodel.model.shape import MEMORY, Shape
from worldmodel.model.world_model import Prediction

PAID = Affine(np.ones(1, np.float32), np.full(1, 0.5, np.float32))  # rewards of 1 are 0 when standardized
CPU = torch.device("cpu")


@pytest.fixture
def soon(monkeypatch):
    """What is far off counts little, so that a short training gets there."""
    monkeypatch.setattr(policy_training, "DISCOUNT", 0.8)
    monkeypatch.setattr(policy_training, "FOLLOW", 0.2)


class Line(nn.Module):
    """A place that actions move by up to 0.3; one more number of z is drawn at random and means nothing."""

    def __init__(self, wall: float = np.inf, best: float = 0.0, doubt: float = 0.0) -> None:
        super().__init__()
        self.wall, self.best, self.doubt = wall, best, doubt
        self.shape = Shape(1, 1, True, history=1, horizon=6, z_dim=2 + MEMORY, hidden_dim=1, encoder="mlp")
        self.weight = nn.Parameter(torch.ones(1))

    def advance(self, z: Any, actions: Any) -> tuple[Any, Prediction]:
        now = actions[:, 0]
        push = now[:, 0]
        place = z[:, 0] + 0.3 * push * self.weight
        earned = (1 - (place - self.best).abs() - PAID.center[0]) / PAID.scale[0] if self.wall == np.inf else place * 0
        nothing = torch.zeros(len(z), 1, 1)
        return torch.cat([place[:, None], z[:, 1:]], dim=1), Prediction(
            place[:, None, None],
            nothing,
            earned[:, None],
            self.ending(place[:, None, None]),
            self.doubt * place[:, None].abs(),
        )

    def ending(self, features: Any) -> Any:
        return torch.where(features[..., 0] > self.wall, 20.0, -20.0) if self.wall < np.inf else None


def learned(line: Line, steps: int = 150, seed: int = 0) -> tuple[Policy, torch.Tensor]:
    drawn = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    starts = Starts(torch.cat([drawn, torch.zeros(256, MEMORY)], dim=1), torch.zeros(256, 6, 0))
    bounds = (-torch.ones(1), torch.ones(1))
    return train_policy(line, starts, PAID, bounds, steps, seed), starts.z  # type: ignore[arg-type]


def at(place: float) -> torch.Tensor:
    return torch.tensor([[place, 0.0, 0.0, 0.0]])


@pytest.mark.usefixtures("soon")
def test_it_goes_where_it_is_paid_and_knows_what_that_is_worth():
    line = Line()
    policy, z = learned(line)
    with torch.no_grad():
        for _ in range(20):
            z, _ = line.advance(z, policy(z)[:, None])
        assert z[:, 0].abs().mean() < 0.2
        best, far = float(policy.value(at(0.0))), float(policy.value(at(2.0)))
    assert far < best
    assert best == pytest.approx(2 / (1 - 0.8), rel=0.2)  # a frame at 0 earns 1, two standard deviations, for ever


@pytest.mark.usefixtures("soon")
def test_it_keeps_off_where_the_task_ends():
    line = Line(wall=0.0)
    policy, _ = learned(line)
    with torch.no_grad():
        assert policy(at(-0.1)) < -0.3
        assert policy.value(at(-1.0)) > 2 * policy.value(at(0.5)) > 0  # too far to turn round


@pytest.mark.usefixtures("soon")
def test_it_stays_where_the_model_knows_what_comes():
    """Paid for being at 3, where the disagreement is 3."""
    places = []
    for doubt in (0.0, 1.0):
        line = Line(best=3.0, doubt=doubt)
        policy, z = learned(line)
        with torch.no_grad():
            for _ in range(30):
                z, _ = line.advance(z, policy(z)[:, None])
            places.append(float(z[:, 0].mean()))
    assert places[0] > 2.5
    assert abs(places[1]) < 1.5


def test_a_seed_gives_the_same_bits_and_the_model_stays_as_it_is():
    line = Line()
    one, other, third = (learned(line, 5, seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)
    assert line.weight.requires_grad
    assert line.weight == 1


def test_there_is_none_without_steps_and_rewards_or_where_actions_are_no_plain_numbers(tmp_path):
    project = make_project(tmp_path)
    packed, scaler = project.read_packed().packed, project.scaler
    model = project.train() and project.read_trained().model

    def found(of: Any = scaler, **fields: Any) -> bool:
        return trained_policy(model, packed, of, make_train(**fields), CPU) is not None

    assert found()
    assert not found(policy_steps=0)
    assert not found(replace(scaler, rewards=None))
    assert not found(replace(scaler, actions=make_scaler(observed_and_dreams(actions=0, kind="none")).actions))
    discrete = make_scaler(observed_and_dreams(actions=packed.action_count, kind="discrete")).actions
    assert not found(replace(scaler, actions=discrete))
    assert project.read_trained().policy is not None


def test_what_the_bundle_answers_stays_within_the_logs_and_the_planner_counts_on_it(project):
    model, rng = project.client(), np.random.default_rng(0)
    z = rng.standard_normal((50, model.z_dim)).astype(np.float32)
    low, high = model.action_range
    assert ((model.prior(z) >= low) & (model.prior(z) <= high)).all()
    assert model.value(z[0]) == pytest.approx(model.value(z)[0], rel=1e-5)
    assert model.prior(z[0]).shape == (model.action_count,)
    observation = rng.standard_normal(model.feature_count)
    helped, alone = (Planner(model, value=value) for value in (True, False))
    assert helped.valued is model
    assert alone.valued is Planner(model, cost=lambda features, _: features[..., 0]).valued is None
    actions = [planner.act(observation) for planner in (helped, alone, Planner(model))]
    np.testing.assert_array_equal(actions[0], actions[2])
    assert (actions[0] != actions[1]).any()


def test_going_on_from_the_end_of_a_plan_is_the_same_plan_at_one_go(project):
    model, rng = project.client(), np.random.default_rng(0)
    z = rng.standard_normal((3, model.z_dim)).astype(np.float32)
    plan = rng.standard_normal((3, 7, model.action_count)).astype(np.float32)
    whole = model.predict(z, plan)
    middle, first = model.advance(z, plan[:, :3])
    end, rest = model.advance(middle, plan[:, 3:])
    for part in ("features", "reward", "disagreement"):
        joined = np.concatenate([getattr(first, part), getattr(rest, part)], axis=1)
        np.testing.assert_allclose(joined, getattr(whole, part), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.advance(z[0], plan[0])[0], end[0], rtol=1e-4, atol=1e-4)


def test_a_bundle_without_a_policy_says_so(projects):
    model = projects("gru").client()
    z = np.zeros(model.z_dim, np.float32)
    plan = np.zeros((2, model.action_count), np.float32)
    for call, expected in (
        (lambda: model.prior(z), "has no prior.onnx: there is one where the logs hold rewards"),
        (lambda: model.value(z), "has no value.onnx"),
        (lambda: model.advance(z, plan), "does not tell the z that it gets to; use step"),
    ):
        with pytest.raises(ValueError, match=expected):
            call()
