"""An environment of Gymnasium as a log has it: observations as features, actions as they are logged, endings apart."""

import sys
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from worldmodel.core.typing import Doubles, Ints

Env = gymnasium.Env[Any, Any]
Actions = Box | Discrete  # the action spaces that a log can hold
USUAL = 200  # frames of an episode


class Frame(NamedTuple):
    features: Doubles  # [F]
    reward: float
    ended: bool  # the task
    stopped: bool  # whether nothing follows


def make(name: str, **settings: Any) -> Env:
    """Raises ValueError where there is no such environment, or where a log could not hold its frames."""
    mujoco = sys.modules.get("mujoco")
    try:
        if mujoco:  # it says of every environment of a kind what it has said of the first
            mujoco.set_mju_user_warning(lambda text: None)
        env = gymnasium.make(name, disable_env_checker=True, **settings)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"cannot make {name}: {' '.join(str(error).split())}") from error
    finally:
        if mujoco:
            mujoco.set_mju_user_warning(None)
    seen, action = env.observation_space, env.action_space
    if not (isinstance(seen, Box) and len(seen.shape) == 1):
        raise ValueError(f"{name}: expected observations in a Box of one dimension, found {seen}")
    vector = isinstance(action, Box) and len(action.shape) == 1 and np.issubdtype(action.low.dtype, np.floating)
    if not (vector or isinstance(action, Discrete)):
        raise ValueError(f"{name}: expected Discrete actions or a float Box of one dimension, found {action}")
    return env


def usual_steps(name: str) -> int:
    """Of an episode, where none are asked for: the environment's own limit, if it is short."""
    try:
        limit = gymnasium.spec(name).max_episode_steps
    except gymnasium.error.Error:
        limit = None  # `make` says what is wrong
    return min(USUAL, limit or USUAL)


def space_of(env: Env) -> Actions:
    space: Actions = env.action_space  # type: ignore[assignment]
    return space


def width(space: Actions) -> int:
    """A, of one-hot actions where they are discrete."""
    return space.shape[0] if isinstance(space, Box) else int(space.n)


def applied(space: Actions, action: Any) -> Any:
    """The logged action as the environment takes it, so that what is logged is what acted."""
    if isinstance(space, Discrete):
        return space.start + action
    return np.clip(np.asarray(action, space.dtype), space.low, space.high)


def reset(env: Env, seed: int) -> Doubles:
    """The first frame's features, [F]."""
    return np.array(env.reset(seed=seed)[0], np.float64)


def step(env: Env, action: Any) -> Frame:
    """One frame on, by an action as it is logged. Raises ValueError where the environment gives no numbers."""
    seen, reward, ended, truncated, _ = env.step(applied(space_of(env), action))
    frame = Frame(np.array(seen, np.float64), float(reward), bool(ended), bool(ended or truncated))
    if not (np.isfinite(frame.features).all() and np.isfinite(frame.reward)):
        raise ValueError(
            f"the environment gives {frame.features.tolist()} and reward {reward}, expected finite numbers"
        )
    return frame


def start_seeds(seed: int, count: int) -> Ints:
    """Of resets, [count]; the first ones stay the same where more are asked for. None of a recording's own."""
    return np.random.default_rng([seed, *b"starts"]).integers(2**31, size=count)
