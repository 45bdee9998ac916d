"""A planner finds what earns most in a model that is known, within bounds, up to the end of the task, and in time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_bundles import write_bundle
from worldmodel import planner as planning
from worldmodel.client import Future, WorldModel
from worldmodel.planner import Planner, coloured


@dataclass
class Cart:
    """A mass that actions push: features are place and speed; it is paid for being close to 1."""

    history: int = 3
    horizon: int = 12
    feature_count: int = 2
    action_count: int = 1
    context_count: int = 0
    discrete: bool = False
    action_range: Any = (np.array([-1.0]), np.array([1.0]))
    rewarded: bool = True
    wall: float = np.inf  # the task ends at places beyond it
    doubt: Callable[[Any], Any] | None = None  # actions [N, K] -> disagreement [N, K]
    encoded: list[Any] = field(default_factory=list)

    def encode(self, features: Any, actions: Any = None, context: Any = None) -> Any:
        self.encoded.append((np.shape(features), actions, context))
        return np.asarray(features, np.float32)[-1]

    def predict(self, z: Any, actions: Any = None, context: Any = None) -> Future:
        push = actions.argmax(axis=-1) - 1 if self.discrete else actions[..., 0]
        speed = z[:, 1:] + np.cumsum(0.2 * push, axis=1)
        place = z[:, :1] + np.cumsum(speed, axis=1)
        features = np.stack([place, speed], axis=-1)
        return Future(
            features=features,
            std=np.zeros_like(features),
            reward=3 - np.abs(place - 1) if self.rewarded else None,
            disagreement=self.doubt(push) if self.doubt else None,
            termination=(place > self.wall).astype(np.float32) if self.wall < np.inf else None,
        )


def driven(planner: Planner, frames: int = 30) -> tuple[np.ndarray, list[Any]]:
    """Where the cart gets to, [F], and the actions that bring it there."""
    seen, actions = np.zeros(2, np.float32), []
    for _ in range(frames):
        actions.append(planner.act(seen))
        push = np.asarray(actions[-1] - 1 if planner.model.discrete else actions[-1][0])
        speed = seen[1] + 0.2 * push
        seen = np.array([seen[0] + speed, speed], np.float32)
    return seen, actions


def test_it_reaches_what_is_rewarded_and_stays_there() -> None:
    (place, speed), actions = driven(Planner(Cart()))
    assert abs(place - 1) < 0.05
    assert abs(speed) < 0.05
    assert actions[0].shape == (1,)
    assert actions[0].dtype == np.float32


def test_discrete_actions_are_integers_that_reach_it_too() -> None:
    planner = Planner(Cart(discrete=True, action_count=3, action_range=None))
    (place, _), actions = driven(planner)
    assert all(isinstance(each, int) for each in actions)
    assert abs(place - 1) < 0.25  # one push changes the speed by 0.2


def test_a_cost_takes_the_place_of_the_reward() -> None:
    planner = Planner(Cart(rewarded=False), cost=lambda features, actions: np.square(features[..., 0] + 2))
    (place, _), _ = driven(planner)
    assert abs(place + 2) < 0.05
    assert planner.plan is not None
    assert planner.plan.actions.shape == (12, 1)
    assert planner.plan.future.features.shape == (12, 2)
    with pytest.raises(ValueError, match="plan with a cost= of your own"):
        Planner(Cart(rewarded=False)).act(np.zeros(2))
    with pytest.raises(ValueError, match=r"cost answers shape \[2\], expected \[\d+, 12\]"):
        Planner(Cart(), cost=lambda features, actions: [1, 2]).act(np.zeros(2))


def test_an_obstacle_is_a_cost_without_end() -> None:
    """1 is worth most, and places beyond 0.7 are forbidden; where everything is, it still acts."""
    beyond = lambda features, actions: np.where(features[..., 0] > 0.7, np.inf, -features[..., 0])  # noqa: E731
    assert 0.5 < max(driven(Planner(Cart(), cost=beyond), frames)[0][0] for frames in range(1, 15)) <= 0.7
    never = Planner(Cart(), cost=lambda features, actions: np.full(features.shape[:2], np.nan))
    assert abs(never.act(np.zeros(2))[0]) <= 1


def test_actions_stay_within_the_logs_unless_bounds_are_given() -> None:
    logged = [abs(each[0]) for each in driven(Planner(Cart(action_range=([-0.3], [0.3]))))[1]]
    assert 0.2 < max(logged) <= np.float32(0.3)
    given = [each[0] for each in driven(Planner(Cart(), low=-1.5, high=[0.5]))[1]]
    assert min(given) < -0.5
    assert max(given) <= 0.5


def test_it_stops_counting_where_the_task_ends() -> None:
    """Ends beyond 0.9 are predicted: 1 earns most, and is not gone for."""
    places = [driven(Planner(Cart(wall=0.9)), frames)[0][0] for frames in range(1, 20)]
    assert max(places) <= 0.9
    assert max(places) > 0.5


def test_what_is_not_known_costs() -> None:
    """Pushing to the right is not known; only who is not cautious does it."""
    doubt = lambda push: 10.0 * (push > 0)  # noqa: E731
    assert driven(Planner(Cart(doubt=doubt), caution=0))[0][0] > 0.9
    assert driven(Planner(Cart(doubt=doubt)))[0][0] < 0.1


def test_the_same_seed_acts_the_same_and_another_does_not() -> None:
    planner = Planner(Cart(), seed=3)
    _, first = driven(planner)
    planner.reset()
    assert np.array_equal(first, driven(planner)[1])
    assert np.array_equal(first, driven(Planner(Cart(), seed=3))[1])
    assert not np.array_equal(first, driven(Planner(Cart(), seed=4))[1])


def test_it_keeps_the_history_that_the_model_takes() -> None:
    cart = Cart()
    _, actions = driven(Planner(cart), 5)
    assert [frames for frames, _, _ in cart.encoded] == [(1, 2), (2, 2), (3, 2), (3, 2), (3, 2)]
    assert cart.encoded[0][1] is None
    assert np.array_equal(cart.encoded[4][1], actions[2:4])


def test_context_that_is_known_ahead_goes_along() -> None:
    cart = Cart(context_count=1)
    planner = Planner(cart)
    planner.act(np.zeros(2), context=[5.0])
    planner.act(np.zeros(2), context=np.arange(20.0)[:, None])
    planner.act(np.zeros(2), context=[7.0])
    assert [np.ravel(each).tolist() for _, _, each in cart.encoded] == [[5], [5], [5, 0]]
    with pytest.raises(ValueError, match=r"context has shape \[3, 1\], expected \[C\], or \[12, C\] and longer"):
        planner.act(np.zeros(2), context=np.zeros((3, 1)))


def test_a_deadline_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the model moves: 0.1 ms a plan, and ten times that from some moment on."""
    now, per_plan = [0.0], [0.0001]

    class Slow(Cart):
        def predict(self, z: Any, actions: Any = None, context: Any = None) -> Future:
            now[0] += per_plan[0] * len(actions)
            return super().predict(z, actions, context)

    monkeypatch.setattr(planning, "perf_counter", lambda: now[0])
    planner = Planner(Slow(), budget_ms=50)
    assert planner.rate() == pytest.approx(1 / 0.05, rel=0.5)
    free = Planner(Slow())
    free.act(np.zeros(2))
    assert free.plan is not None
    assert free.plan.rounds == 5
    took = []
    for _ in range(5):
        before = now[0]
        planner.act(np.zeros(2))
        took.append(now[0] - before)
    assert max(took) <= 0.05
    assert min(took) > 0.02
    per_plan[0] = 0.001
    planner.act(np.zeros(2))  # the one that is surprised
    before = now[0]
    planner.act(np.zeros(2))
    assert now[0] - before <= 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples=0, expected 1 or more"),
        ({"horizon": 0}, "horizon=0, expected 1 or more"),
        ({"caution": -1}, "caution=-1"),
        ({"budget_ms": 0}, "budget_ms=0"),
        ({"low": 1, "high": 0}, "expected low below high"),
        ({"low": [0, 0]}, "expected a finite number, or 1 of them"),
        ({"high": np.inf}, "expected a finite number"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Planner(Cart(), **settings)


def test_models_that_say_no_range_or_take_no_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="give low=, or export it again"):
        Planner(Cart(action_range=None))
    with pytest.raises(ValueError, match="takes no actions"):
        Planner(Cart(action_count=0))


def test_noise_has_unit_variance_and_the_memory_that_its_colour_says() -> None:
    rng, memory = np.random.default_rng(0), []
    for colour in (0, 0.6, 2):
        noise = coloured(rng, (4000, 16, 2), colour)
        assert noise.std() == pytest.approx(1, abs=0.02)
        memory.append(float((noise[:, 0] * noise[:, 1]).mean()))
    assert memory[0] == pytest.approx(0, abs=0.03)
    assert memory[0] < memory[1] - 0.2 < memory[2] - 0.4


def walker(folder: Path, doubt: float) -> WorldModel:
    """Actions move a place, nothing is earned, and the value is highest at 3; `doubt` is the disagreement there."""
    nothing = "float nothing = {0}, int64 time = {1}, int64[1] one = {1}, int64[1] last = {2}"
    graphs = {
        "encoder": "(float[b, 1, 1] features) => (float[b, 1] z) { z = Flatten(features) }",
        "predictor": f"""(float[b, 1] z, float[b, K, 1] actions) => (float[b, K, 1] features, float[b, K, 1] std,
            float[b, K] disagreement, float[b, K] reward, float[b, 1] z_next) <{nothing}, float third = {{{doubt / 3}}}>
            {{ moved = CumSum(actions, time) begin = Unsqueeze(z, one) features = Add(begin, moved)
              std = Mul(moved, nothing) reward = ReduceSum<keepdims = 0>(std, last) off = Mul(features, third)
              far = Abs(off) disagreement = ReduceSum<keepdims = 0>(far, last)
              gone = ReduceSum<keepdims = 0>(actions, one) z_next = Add(z, gone) }}""",
        "prior": "(float[b, 1] z) => (float[b, 1] action) { action = Identity(z) }",
        "value": """(float[b, 1] z) => (float[b] value) <float best = {3}, int64[1] last = {1}>
            { off = Sub(z, best) far = Abs(off) less = Neg(far) value = ReduceSum<keepdims = 0>(less, last) }""",
    }
    unlike = dict.fromkeys(("feature_names", "feature_min", "feature_max", "context_min", "context_max"))
    said = {"action_min": "[-1]", "action_max": "[1]", "discount": "0.9", "unknown_reward": "-1"}
    return WorldModel.load(write_bundle(folder, texts=graphs, **unlike | said))


def reached(planner: Planner, frames: int = 10) -> float:
    place = 0.0
    for _ in range(frames):
        place += float(planner.act([place])[0])
    return place


def test_the_value_says_what_the_end_of_a_plan_is_worth_as_far_as_it_is_trusted(tmp_path: Path) -> None:
    model = walker(tmp_path / "known", doubt=0.0)
    assert abs(reached(Planner(model)) - 3) < 0.5
    assert abs(reached(Planner(model, value=False))) < 1.5  # all plans are alike
    doubtful = walker(tmp_path / "doubtful", doubt=3.0)
    assert abs(reached(Planner(doubtful))) < 0.5
    assert abs(reached(Planner(doubtful, caution=0)) - 3) < 0.5
