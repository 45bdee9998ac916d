"""Model-predictive control on a bundle: numpy and onnxruntime.

planner = Planner(WorldModel.load("artifacts/worldmodel", threads=2))
action = planner.act(observation)          # once a frame; planner.reset() before another episode

The cross-entropy method as in iCEM (arXiv 2008.06389): plans are drawn around a mean with noise that is correlated over
time, the best of them make the next mean, some of them are drawn from once more, and what was found for later frames
starts the next decision. A policy that was trained in the model says what the end of a plan is worth (as in arXiv
2203.04955). Dimension key: N plans, K frames of a plan, F features, A actions, C context, Z latent.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from worldmodel.client import Future, WorldModel
from worldmodel.core.inputs import numbers
from worldmodel.core.typing import Doubles, Floats, Reals

Cost = Callable[[Reals, Floats], ArrayLike]  # features [N, K, F] and actions [N, K, A] in raw units -> [N, K]

COLOUR, COLOUR_DISCRETE = 0.6, 2.0  # the noise has a spectrum of frequency^-COLOUR
SPREAD, SPREAD_DISCRETE = 0.3, 1.0  # std of the noise at first, where the bounds are -1 and 1
NEAR = 0.15  # that std where the end of a plan has a value
TRUST = 0.1  # what is predicted with a disagreement d is trusted exp(-TRUST d^2)
LEAST_SPREAD = 0.05  # at last
ELITES, KEPT = 0.1, 0.3  # share of a round's plans that make the next mean; share of those that compete once more
SHRINK = 1.25  # plans of a round, beside those of the next one
MOMENTUM = 0.1  # share of the mean and std that a round leaves as they were
FEWEST = 8  # plans of a round
FORBIDDEN = 1e12  # what a cost that is infinite, or no number, counts
WARM = 3  # decisions that measure how long one takes
BEYOND = (
    50  # frames after the plan that count where it has not ended by then, each as what plans earn a frame on average
)
MARGIN = 1.3  # the next round may take so much longer than the slowest one so far


class Dynamics(Protocol):
    """What a planner plans in: a WorldModel, or a simulator that answers as one."""

    @property
    def history(self) -> int: ...
    @property
    def horizon(self) -> int: ...
    @property
    def feature_count(self) -> int: ...
    @property
    def action_count(self) -> int: ...
    @property
    def context_count(self) -> int: ...
    @property
    def discrete(self) -> bool: ...
    @property
    def action_range(self) -> tuple[Any, Any] | None: ...

    def encode(
        self, features: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None
    ) -> NDArray[Any]: ...

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Future: ...


class Plan(NamedTuple):
    """What a planner has decided on."""

    actions: Floats  # [K, A], one-hot where they are discrete
    future: Future  # what it is expected to lead to
    score: float  # rewards less costs, up to the predicted end
    rounds: int


class Planner:
    """Decides each action anew, from what the model predicts for several hundred plans.

    With the same seed the same observations lead to the same actions, unless a `budget_ms` is set.
    """

    def __init__(
        self,
        model: Dynamics,
        *,
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
        horizon: int | None = None,
        samples: int = 128,
        iterations: int = 5,
        cost: Cost | None = None,
        caution: float = 1.0,
        value: bool = True,
        seed: int = 0,
        budget_ms: float | None = None,
    ) -> None:
        """low, high: bounds of the actions, one number or [A]; else those of the logs.
        horizon: frames of a plan; else those that the model was trained to predict.
        samples: plans of the first round; each of the `iterations` has fewer.
        cost: of each frame, in place of the predicted reward; infinite where something must not be.
        caution: what a frame pays for each unit of disagreement, in standard deviations of what the plans earn a frame.
        value: whether the bundle's value, where it has one, says what the end of a plan is worth; not with a cost.
        budget_ms: a decision ends before so many ms have passed, with as many plans as there was time for.

        Raises ValueError for settings that cannot be, and where neither the model nor the caller names a reward.
        """
        for name, number in (("horizon", horizon), ("samples", samples), ("iterations", iterations)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number}, expected 1 or more")
        if not model.action_count:
            raise ValueError("the model takes no actions: its logs held none, and there is nothing to plan")
        if caution < 0 or (budget_ms is not None and budget_ms <= 0):
            raise ValueError(f"caution={caution}, budget_ms={budget_ms}; expected 0 or more, and more than 0")
        self.model, self.cost, self.caution, self.seed = model, cost, caution, seed
        self.horizon = horizon or model.horizon
        self.samples, self.iterations, self.budget_ms = samples, iterations, budget_ms
        self.valued: WorldModel | None = None
        if value and cost is None and isinstance(model, WorldModel) and model.has_policy:
            self.valued = model
        self.bounds = None if model.discrete else _bounds(model, low, high)
        self._slowest = 0.0  # seconds a plan, as far as measured
        self.plan: Plan | None = None
        self.reset()
        if budget_ms is not None:
            self.rate()

    def reset(self) -> None:
        """Before another episode: forget what was seen. Randomness begins anew as well."""
        history = self.model.history
        self._rng = np.random.default_rng(self.seed)
        self._frames: deque[Any] = deque(maxlen=history)
        self._past: deque[Any] = deque(maxlen=max(0, history - 1))  # (action [A], context [C] or None)
        self._mean = np.zeros((self.horizon, self.model.action_count))
        self._kept = np.zeros((0, *self._mean.shape))
        self.plan = None

    def act(self, observation: ArrayLike, context: ArrayLike | None = None) -> Any:
        """observation [F], raw units -> the action to apply now: float32 [A], or an int where actions are discrete.

        context [C], if it stays as it is, or [K, C] for the frames to come; only where the logs have some.
        Raises ValueError as `WorldModel.encode` does.
        """
        begun, ahead = perf_counter(), self._known_ahead(context)
        seen = [*self._frames, numbers(observation, "observation")][-self.model.history :]
        z = self.model.encode(np.stack(seen), *self._between(len(seen), ahead))
        self.plan = self._search(z, ahead, begun)
        action = self.plan.actions[0]
        self._frames.append(seen[-1])
        self._past.append((action, None if ahead is None else ahead[0]))
        return int(action.argmax()) if self.model.discrete else action

    def rate(self) -> float:
        """Decisions a second, measured now; what was seen so far is forgotten."""
        model, taken = self.model, []
        still = np.zeros((1, model.feature_count), np.float32)
        ahead = np.zeros((self.horizon, model.context_count), np.float32) if model.context_count else None
        for _ in range(WARM):
            begun = perf_counter()
            z = model.encode(still, None, None if ahead is None else ahead[:1])
            self._search(z, ahead, begun)
            taken.append(perf_counter() - begun)
        self.reset()
        return 1 / float(np.median(taken))

    def _known_ahead(self, context: ArrayLike | None) -> Floats | None:
        """[K, C]"""
        if context is None:
            return None
        given = numbers(context, "context").astype(np.float32)
        if given.ndim == 1:
            return np.broadcast_to(given, (self.horizon, len(given)))
        if given.ndim != 2 or len(given) < self.horizon:
            raise ValueError(f"context has shape {list(given.shape)}, expected [C], or [{self.horizon}, C] and longer")
        return given[: self.horizon]

    def _between(self, frames: int, ahead: Floats | None) -> tuple[Any, Any]:
        """Actions [T-1, A] and context between the T frames of the history."""
        past = list(self._past)[len(self._past) + 1 - frames :]
        actions = np.stack([each for each, _ in past]) if past else None
        if ahead is None or self.model.history == 1:
            return actions, None
        return actions, np.stack([each for _, each in past]) if past else ahead[:1]

    def _search(self, z: NDArray[Any], ahead: Floats | None, begun: float) -> Plan:
        spread = SPREAD_DISCRETE if self.bounds is None else NEAR if self.valued else SPREAD
        mean, std = self._mean, np.full(self._mean.shape, spread)
        kept, best, rounds, unit = self._kept, None, 0, None
        for number in self._rounds(begun):
            drawn = mean + std * coloured(self._rng, (number, *mean.shape), COLOUR if self.bounds else COLOUR_DISCRETE)
            commands = np.concatenate([drawn, kept, mean[None]])
            commands = commands if self.bounds is None else np.clip(commands, -1, 1)
            future, value, actions, earned = self._tried(z, commands, ahead)
            if unit is None:  # of the first round, so that all of them compare
                known = earned[np.abs(earned) < FORBIDDEN]
                unit = (known.std(), known.mean()) if len(known) else (0.0, 0.0)
            scores = self._scores(earned, future, value, *unit)
            order = np.argsort(-scores, kind="stable")[: max(2, round(ELITES * len(scores)))]
            elite, first = commands[order], order[0]
            if best is None or scores[first] > best.score:
                told = _one(future, int(first))
                best = Plan(actions[first], told, float(scores[first]), 0)
            mean = MOMENTUM * mean + (1 - MOMENTUM) * elite.mean(axis=0)
            std = np.maximum(MOMENTUM * std + (1 - MOMENTUM) * elite.std(axis=0), LEAST_SPREAD)
            kept, rounds = elite[: max(1, round(KEPT * len(elite)))], rounds + 1
        assert best is not None
        self._mean, self._kept = _next(mean), _next(kept)
        return best._replace(rounds=rounds)

    def _rounds(self, begun: float) -> Any:
        """Plans of each round, while there is time."""
        for round_ in range(self.iterations):
            number = max(FEWEST, int(self.samples / SHRINK**round_))
            if self.budget_ms is not None and self._slowest:
                left = begun + self.budget_ms / 1000 - perf_counter()
                number = min(number, int(left / (self._slowest * MARGIN)))
                if round_ and number < 2 * FEWEST:
                    return
                number = max(FEWEST, number)
            started = perf_counter()
            yield number
            self._slowest = max(0.9 * self._slowest, (perf_counter() - started) / number)

    def _tried(
        self, z: NDArray[Any], commands: Doubles, ahead: Floats | None
    ) -> tuple[Future, Floats | None, Floats, Doubles]:
        """Commands [N, K, A] of -1..1 -> what they lead to, what its end is worth [N] where that is known, the commands
        as actions, and what each frame earns [N, K].
        """
        number, _, width = commands.shape
        if self.bounds is None:
            actions: Floats = np.eye(width, dtype=np.float32)[commands.argmax(axis=-1)]
        else:
            low, high = self.bounds
            actions = np.clip(low + (commands + 1) / 2 * (high - low), low, high).astype(np.float32)
        met = None if ahead is None else np.broadcast_to(ahead, (number, *ahead.shape))
        starts, value = np.broadcast_to(z, (number, *z.shape)), None
        if self.valued:
            after, future = self.valued.advance(starts, actions, met)
            value = self.valued.value(after)
        else:
            future = self.model.predict(starts, actions, met)
        return future, value, actions, self._earned(future, actions)

    def _earned(self, future: Future, actions: Floats) -> Doubles:
        """Reward, or cost with its sign changed, of each frame, [N, K]."""
        if self.cost is None:
            if future.reward is None:
                raise ValueError("the model predicts no reward, its logs held none: plan with a cost= of your own")
            return future.reward.astype(np.float64)
        earned = -np.asarray(self.cost(future.features, actions), np.float64)
        if earned.shape != actions.shape[:2]:
            raise ValueError(f"cost answers shape {list(earned.shape)}, expected {list(actions.shape[:2])}")
        return np.nan_to_num(earned, nan=-FORBIDDEN, neginf=-FORBIDDEN, posinf=FORBIDDEN)

    def _scores(self, earned: Doubles, future: Future, value: Floats | None, unit: float, level: float) -> Doubles:
        """Of plans, up to the predicted end of the task, [N]."""
        alive = future.alive
        lasting = alive[:, -1] if future.termination is None else alive[:, -1] * (1 - future.termination[:, -1])
        if self.valued and value is not None:
            return self._worth(self.valued, np.c_[earned, value], np.c_[alive, lasting], future)
        if future.disagreement is not None:
            earned = earned - self.caution * unit * future.disagreement
        scores: Doubles = (earned * alive).sum(axis=-1)
        return scores if future.termination is None else scores + BEYOND * level * lasting

    def _worth(self, model: WorldModel, earned: Doubles, alive: Doubles, future: Future) -> Doubles:
        """Earned by each frame, and from the last one on [N, K + 1], where it is alive and trusted: scores [N]."""
        discounts = model.discount ** np.arange(1 + self.horizon)
        unknown = np.r_[np.full(self.horizon, model.unknown_reward), model.unknown_reward / (1 - model.discount)]
        trust = np.ones_like(earned)
        if future.disagreement is not None:
            least = np.minimum.accumulate(np.exp(-self.caution * TRUST * np.square(future.disagreement)), axis=-1)
            trust = np.c_[least, least[:, -1:]]
        scores: Doubles = (discounts * alive * (unknown + trust * (earned - unknown))).sum(axis=-1)
        return scores


def coloured(rng: Generator, shape: tuple[int, int, int], colour: float) -> Doubles:
    """Noise [N, K, A] of unit variance, along K with a spectrum of frequency^-colour (of twice the length: else the
    two ends of a plan would be alike).
    """
    number, length, width = shape
    size = np.fft.rfftfreq(2 * length)
    size[0] = size[1]
    size = size ** (-colour / 2)
    parts = rng.standard_normal((2, number, width, length + 1)) * size
    waves = np.fft.irfft(parts[0] + 1j * parts[1], n=2 * length, axis=-1)[..., :length]
    variance = (np.square(size) * np.r_[1, np.full(length - 1, 4), 1]).sum() / 4 / length**2
    return np.moveaxis(waves / np.sqrt(variance), -1, 1)


def _one(future: Future, number: int) -> Future:
    """Of a batch, without its axis."""
    told: dict[str, Any] = {name: each if each is None else each[number] for name, each in future._asdict().items()}
    return Future(**told)


def _next(plans: Doubles) -> Doubles:
    """[..., K, A] a frame later; the last one once more."""
    return np.concatenate([plans[..., 1:, :], plans[..., -1:, :]], axis=-2)


def _bounds(model: Dynamics, low: ArrayLike | None, high: ArrayLike | None) -> tuple[Doubles, Doubles]:
    """[A] each."""
    logged: tuple[Any, Any] = model.action_range or (None, None)
    found: list[Doubles] = []
    for name, given, seen in (("low", low, logged[0]), ("high", high, logged[1])):
        if given is None and seen is None:
            raise ValueError(f"the bundle does not say what actions its logs hold: give {name}=, or export it again")
        bound = numbers(given if given is not None else seen, name).astype(np.float64)
        if bound.shape not in ((), (model.action_count,)) or not np.isfinite(bound).all():
            raise ValueError(f"{name}={bound.tolist()}, expected a finite number, or {model.action_count} of them")
        found.append(np.broadcast_to(bound, (model.action_count,)))
    if not (found[0] < found[1]).any() or (found[0] > found[1]).any():
        raise ValueError(f"low={found[0].tolist()} and high={found[1].tolist()}, expected low below high")
    return found[0], found[1]
