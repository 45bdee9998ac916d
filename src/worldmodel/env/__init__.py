"""A bundle as a Gymnasium environment, and as a vector environment: policies train inside the model.

envs = WorldModelVectorEnv("artifacts/worldmodel", "data/worldmodel/offline", num_envs=64)
observations, infos = envs.reset(seed=0)
observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())

Both are registered: gymnasium.make_vec("worldmodel.env:WorldModel-v0", num_envs=64, model=..., logs=...).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from worldmodel.bundle import ENCODER, PREDICTOR, SCALARS, STEP, Range, find_bundle
from worldmodel.client import AGAIN, WorldModel
from worldmodel.core.typing import Doubles, Floats, Reals
from worldmodel.env.rollouts import Flags, Outcome, Reward, Rollouts, Rules, Settings
from worldmodel.env.starts import Begin, Logs, Starts, logged

try:
    import gymnasium
    from gymnasium.spaces import Box, Discrete
    from gymnasium.utils.seeding import np_random
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"worldmodel.env needs {missing.name}, which is not installed; pip install 'worldmodel[control]'",
        name=missing.name,
    ) from None

__all__ = ["WorldModelEnv", "WorldModelVectorEnv"]
ID = "WorldModel-v0"


class WorldModelEnv(gymnasium.Env[NDArray[Any], Any]):
    """One episode at a time. `model` is a WorldModel or its folder; `logs` a log file, a folder of them, or arrays.

    Arrays are one mapping an episode: features [T, F], actions [T-1 or more, A] (or integers), context [T, C] where the
    model takes some, and terminal where the last frame ended the task. Raises ValueError where they do not fit.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium's)

    def __init__(
        self, model: WorldModel | Path | str, logs: Logs, *, render_mode: None = None, **settings: Unpack[Settings]
    ) -> None:
        self.rollouts, self.observation_space, self.action_space = _made(model, logs, 1, **settings)
        self.spec = replace(gymnasium.spec(ID), kwargs={"model": model, "logs": logs, **settings})
        self._begun = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._begun = True
        return self.rollouts.begin([0], [self.np_random])[0], {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        if not self._begun:
            raise gymnasium.error.ResetNeeded("no episode has begun; call reset() before step()")
        found = self.rollouts.step(_vectors(self.action_space, np.asarray(action)[None]), [self.np_random])
        info = {} if found.disagreement is None else {"disagreement": float(found.disagreement[0])}
        return found.observation[0], float(found.reward[0]), bool(found.terminated[0]), bool(found.truncated[0]), info


class WorldModelVectorEnv(VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Many episodes at once, in one call of the model; otherwise as WorldModelEnv.

    reset(seed=s) gives episode i the chances of WorldModelEnv.reset(seed=s + i), as SyncVectorEnv does; a list has one
    seed for each. `autoreset_mode` is one of Gymnasium's three; with DISABLED, reset(options={"reset_mask": [B]})
    begins some of them.
    """

    def __init__(
        self,
        model: WorldModel | Path | str,
        logs: Logs,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: None = None,
        **settings: Unpack[Settings],
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}, expected 1 or more")
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.rollouts, self.single_observation_space, self.single_action_space = _made(
            model, logs, num_envs, **settings
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[Generator] = []
        self._seen: Reals = np.zeros((num_envs, len(self.rollouts.low)), self.rollouts.low.dtype)
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        which = np.flatnonzero(self._mask(options)).tolist()
        seeds = [seed] * self.num_envs if seed is None else seed
        if isinstance(seeds, int):
            seeds = [seeds + index for index in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds, expected {self.num_envs}")
        if not self._generators:
            self._generators = [np_random(each)[0] for each in seeds]
        for index in which:
            if seeds[index] is not None:
                self._generators[index] = np_random(seeds[index])[0]
        self._begin(which)
        return self._seen.copy(), {}

    def step(self, actions: NDArray[Any]) -> tuple[NDArray[Any], Doubles, Flags, Flags, dict[str, Any]]:
        if not self._generators:
            raise gymnasium.error.ResetNeeded("no episode has begun; call reset() before step()")
        before = self._ended
        found = self.rollouts.step(_vectors(self.single_action_space, np.asarray(actions)), self._generators)
        self._seen, self._ended = found.observation, found.terminated | found.truncated
        infos = self._told(found, np.ones(self.num_envs, np.bool_))
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._final(found, self._ended)
            self._begin(np.flatnonzero(self._ended).tolist())
        elif self.autoreset_mode == AutoresetMode.NEXT_STEP and before.any():
            self._begin(np.flatnonzero(before).tolist())
            found.reward[before], found.terminated[before], found.truncated[before] = 0.0, False, False
            infos = self._told(found, ~before)
        return self._seen.copy(), found.reward, found.terminated, found.truncated, infos

    def _begin(self, which: list[int]) -> None:
        self._seen[which] = self.rollouts.begin(which, self._generators)
        self._ended[which] = False

    def _mask(self, options: dict[str, Any] | None) -> Flags:
        """Which episodes a reset begins."""
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        found = np.asarray(mask)
        if found.shape != (self.num_envs,) or found.dtype != np.bool_ or not found.any():
            raise ValueError(f"reset_mask is {found.dtype} {list(found.shape)}, expected booleans [{self.num_envs}]")
        return found

    def _told(self, found: Outcome, which: Flags) -> dict[str, Any]:
        if found.disagreement is None or not which.any():
            return {}
        return {"disagreement": np.where(which, found.disagreement, np.float64(0)), "_disagreement": which}

    def _final(self, found: Outcome, ended: Flags) -> dict[str, Any]:
        """What was seen last in episodes in whose place others have begun."""
        last = np.full(self.num_envs, None, object)
        for index in np.flatnonzero(ended):
            last[index] = found.observation[index].copy()
        told = {"final_info": self._told(found, ended.copy()), "_final_info": ended.copy()}
        return self._told(found, ~ended) | told | {"final_obs": last, "_final_obs": ended.copy()}


def _made(
    model: WorldModel | Path | str,
    logs: Logs,
    count: int,
    *,
    steps: int = 100,
    reward: Reward | None = None,
    begin: Begin = "anywhere",
    caution: float = 0.0,
    max_disagreement: float | None = None,
    noise: bool = False,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> tuple[Rollouts, Box, Box | Discrete]:
    """Episodes in a model, and the spaces of their observations and actions."""
    if steps < 1 or not caution >= 0 or not (max_disagreement or 0.0) >= 0 or begin not in ("anywhere", "beginning"):
        raise ValueError(
            f"steps={steps}, caution={caution}, max_disagreement={max_disagreement}, begin={begin!r}; expected 1 or "
            "more, 0 or more, 0 or more, and 'anywhere' or 'beginning'"
        )
    params = None
    if not isinstance(model, WorldModel):
        params = find_bundle(Path(model)) / "params.yaml"
        model = WorldModel.load(model)
    if not model.action_count:
        raise ValueError(f"bundle {model.run_id} takes no actions: its logs held none, so there is nothing to choose")
    if STEP not in model.graphs:
        raise ValueError(f"bundle {model.run_id} has no {STEP}, which an environment goes on by; {AGAIN}")
    if model.discrete and (low is not None or high is not None):
        raise ValueError(
            f"low={low!r}, high={high!r}: the actions of bundle {model.run_id} are discrete, without bounds"
        )
    starts = Starts(model, logged(logs, model, params if params and params.is_file() else None), steps, begin)
    if reward is None and "reward" not in model.graphs[PREDICTOR].outputs:
        raise ValueError(
            f"bundle {model.run_id} predicts no reward, its logs held none; give reward=, a function of yours"
        )
    seen, taken = starts.ranges()
    bounds = _bounds(model, seen)
    actions = Discrete(model.action_count) if model.discrete else _actions(model.action_range or taken, low, high)
    # At 1 the model is as unsure as somebody who only knows how far frames of the logs lie apart.
    doubt = max(1.0, starts.usual_disagreement()) if max_disagreement is None else max_disagreement
    rules = Rules(steps, reward, caution, doubt, noise)
    return Rollouts(model, starts, rules, bounds, count), Box(*bounds, dtype=bounds[0].dtype.type), actions


def _bounds(model: WorldModel, seen: Range) -> tuple[Reals, Reals]:
    """Of observations, [F] each: the range of the logs, and as much again to either side; nobody has seen beyond."""
    low, high = seen
    if model.feature_range is not None:
        low, high = np.minimum(low, model.feature_range[0]), np.maximum(high, model.feature_range[1])
    margin = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    scalar = SCALARS[model.graphs[ENCODER].types["features"]]
    return (low - margin).astype(scalar), (high + margin).astype(scalar)


def _actions(logged: Range, low: ArrayLike | None, high: ArrayLike | None) -> Box:
    bounds = [
        np.broadcast_to(np.asarray(own if given is None else given, np.float32), own.shape)
        for own, given in zip(logged, (low, high), strict=True)
    ]
    # An action that never varies keeps a range, which what rescales actions divides by.
    upper = np.maximum(bounds[1], np.nextafter(bounds[0], np.float32(np.inf)))
    if not np.isfinite([bounds[0], upper]).all() or (bounds[1] < bounds[0]).any():
        raise ValueError(f"actions from {bounds[0].tolist()} to {bounds[1].tolist()}, expected finite bounds in order")
    return Box(bounds[0], upper, dtype=np.float32)


def _vectors(space: Any, actions: NDArray[Any]) -> Floats:
    """[B, A]: numbers within the bounds, the nearest where they lie beyond; integers as one-hot."""
    if isinstance(space, Box):
        within: Floats = np.clip(actions, space.low, space.high, dtype=np.float32)
        return within
    if actions.dtype.kind not in "iu" or actions.min() < 0 or actions.max() >= space.n:
        raise ValueError(f"actions are {actions.dtype} {actions.min()}..{actions.max()}, expected 0..{space.n - 1}")
    one_hot: Floats = np.eye(int(space.n), dtype=np.float32)[actions]
    return one_hot


gymnasium.register(
    ID,
    entry_point="worldmodel.env:WorldModelEnv",
    vector_entry_point="worldmodel.env:WorldModelVectorEnv",
)
