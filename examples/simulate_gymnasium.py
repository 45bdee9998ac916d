"""Dreams of HalfCheetah-v5 in its simulator, whose physics differ a little from one dream to the next.

    dvc exp run -S dreams.source=simulator -S dreams.simulator=examples.simulate_gymnasium:halfcheetah

A dream begins in the first frame of a real history and goes through that history under its own physics, so that a
model can tell from the history which physics it is in. gymnasium[mujoco] stands in requirements-dev.txt.
"""

from dataclasses import dataclass
from functools import cache

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from numpy.random import Generator
from numpy.typing import NDArray

from worldmodel.trajectory import Start, Trajectory

Vector = NDArray[np.float64]

SCALED = {  # what of it a dream draws -> the arrays of a MuJoCo model that change with it
    "mass": ("body_mass", "body_inertia"),
    "friction": ("geom_friction",),
    "damping": ("dof_damping",),
    "gain": ("actuator_gear",),
}


@dataclass(frozen=True)
class Spread:
    """How far a dream strays from the logged system: standard deviations of logarithms, and of noise on actions."""

    mass: float = 0.05  # of each body
    friction: float = 0.1  # of the ground's grip on each geom
    damping: float = 0.1  # of each joint's friction, which grows with its speed
    gain: float = 0.05  # of each motor
    action: float = 0.1  # in units of the action, whose range is -1..1


def halfcheetah(start: Start, rng: Generator) -> Trajectory:
    """What dreams.simulator names."""
    return simulate(start, rng, Spread())


def simulate(start: Start, rng: Generator, spread: Spread) -> Trajectory:
    """The logged actions with noise, from the first frame of the start on."""
    if np.isnan(start.features[0]).any():
        raise ValueError("the first frame of a start misses a reading, expected a whole state to begin in")
    env, logged = made()
    randomize(env.model, logged, rng, spread)
    set_state(env, start.features[0])
    planned = np.concatenate([start.actions, start.planned_actions])
    actions = np.clip(planned + spread.action * rng.standard_normal(planned.shape), -1, 1).astype(np.float32)
    steps = [(observed(env), env.step(action)[1]) for action in actions]
    features, rewards = zip(*steps, strict=True)
    return Trajectory(np.stack(features), actions, np.array(rewards))


@cache
def made() -> tuple[MujocoEnv, dict[str, Vector]]:
    """The simulator, made once, and the arrays of its model before anything was scaled."""
    env = gymnasium.make("HalfCheetah-v5").unwrapped
    assert isinstance(env, MujocoEnv)
    return env, {name: getattr(env.model, name).copy() for names in SCALED.values() for name in names}


def randomize(model: mujoco.MjModel, logged: dict[str, Vector], rng: Generator, spread: Spread) -> None:
    """Each row of an array times a factor of its own, log-normal around 1; a body's mass and inertia share theirs."""
    for part, names in SCALED.items():
        factors = np.exp(getattr(spread, part) * rng.standard_normal(len(logged[names[0]])))
        for name in names:
            getattr(model, name)[:] = (logged[name].T * factors).T
    mujoco.mj_setConst(model, mujoco.MjData(model))


def set_state(env: MujocoEnv, features: Vector) -> None:
    """Features are positions without the first, the way run, and velocities."""
    mujoco.mj_resetData(env.model, env.data)  # forces of the dream before would change the solver's first guess
    positions = env.model.nq - 1
    env.set_state(np.concatenate([[0.0], features[:positions]]), features[positions:].astype(np.float64))


def observed(env: MujocoEnv) -> Vector:
    return np.concatenate([env.data.qpos[1:], env.data.qvel])
