"""The whole state of an environment, kept and gone back to: what comes then is bit for bit what would have come."""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from worldmodel.control.simulator import Env, Frame, space_of, step

TRIED = 8  # frames that must come again
State = Sequence[Mapping[str, Any]]  # attributes of each wrapper and of the environment in it


def state_of(env: Env) -> State:
    """Raises whatever a part of it raises that cannot be copied."""
    return _copied(env, [vars(layer) for layer in _layers(env)], anew=True)


def restore(env: Env, state: State) -> None:
    """Go back; the state stays as it is, for another time."""
    for layer, kept in zip(_layers(env), _copied(env, state, anew=False), strict=True):
        vars(layer).update(kept)


def why_not(env: Env) -> str:
    """Why the states of this environment cannot be gone back to; no text where they can. It must have been reset."""
    draws = copy.deepcopy(space_of(env))  # whose own generator moves on
    actions = [draws.sample() - getattr(draws, "start", 0) for _ in range(TRIED)]
    try:
        kept = state_of(env)
        first, again = (_tried(env, kept, actions) for _ in range(2))
    except (TypeError, AttributeError, NotImplementedError, RuntimeError, copy.Error) as error:
        return f"its state cannot be copied ({' '.join(str(error).split())[:200]})"
    return "" if first == again else "it does not come back to a state that was copied"


def _tried(env: Env, kept: State, actions: Sequence[Any]) -> list[bytes]:
    """Bits of what the actions lead to, up to the end of the task; the environment goes back after that."""
    found = list[Frame]()
    for action in actions:
        if not (found and found[-1].stopped):
            found.append(step(env, action))
    restore(env, kept)
    return [np.append(frame.features, frame[1:]).tobytes() for frame in found]


def _layers(env: Env) -> Iterator[Any]:
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _copied(env: Env, state: State, anew: bool) -> State:
    """What no step changes is shared. A simulation of MuJoCo is copied by MuJoCo: into a new one, or into the
    environment's own, as making one takes far longer than to copy it.
    """
    mujoco = sys.modules.get("mujoco")
    constant = (gymnasium.Env, gymnasium.Space, EnvSpec, *((mujoco.MjModel,) if mujoco else ()))
    memo = dict[int, Any]()
    for layer, kept in zip(_layers(env), state, strict=True):
        memo[id(layer)] = layer
        for name, value in kept.items():
            if isinstance(value, constant):
                memo[id(value)] = value
            elif mujoco and isinstance(value, mujoco.MjData):
                memo[id(value)] = target = mujoco.MjData(layer.model) if anew else getattr(layer, name)
                mujoco.mj_copyData(target, layer.model, value)
    found: State = copy.deepcopy(state, memo)
    return found
