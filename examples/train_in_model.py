"""Train a policy inside a world model, then let it act in the real environment, beside random actions.

    python examples/train_in_model.py artifacts/worldmodel data/worldmodel/offline --env HalfCheetah-v5 --out policy.zip

While it learns it meets the model alone. Needs `pip install 'worldmodel[pipeline,rl]'`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from worldmodel.core.errors import run
from worldmodel.env.stable_baselines import WorldModelVecEnv

BATCH = 256  # frames an update learns from
UPDATES = 4  # of SAC, each time that all environments have made a step
UNSEEN = 1_000_000  # the first seed of the real environment's starts


def learner(envs: WorldModelVecEnv, seed: int) -> BaseAlgorithm:
    """SAC for continuous actions, PPO for discrete ones."""
    common: dict[str, Any] = {"seed": seed, "learning_rate": 1e-3, "batch_size": BATCH, "device": "cpu"}
    if isinstance(envs.action_space, gymnasium.spaces.Discrete):
        return PPO("MlpPolicy", envs, n_steps=max(1, 8 * BATCH // envs.num_envs), **common)
    return SAC("MlpPolicy", envs, gradient_steps=UPDATES, learning_starts=10 * BATCH, **common)


def returns(env: gymnasium.Env[Any, Any], act: Callable[[NDArray[Any]], Any], episodes: int, steps: int) -> list[float]:
    """What each episode earns in the real environment."""
    return [_return(env, act, UNSEEN + episode, steps) for episode in range(episodes)]


def _return(env: gymnasium.Env[Any, Any], act: Callable[[NDArray[Any]], Any], seed: int, steps: int) -> float:
    (seen, _), total = env.reset(seed=seed), 0.0
    for _ in range(steps):
        seen, reward, terminated, truncated, _ = env.step(act(seen))
        total += float(reward)
        if terminated or truncated:
            break
    return total


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("logs")
@click.option("--env", "name", required=True, help="Gymnasium's name of the real environment.")
@click.option(
    "--frames", type=click.IntRange(1), default=320_000, show_default=True, help="Of the model, to learn from."
)
@click.option("--envs", type=click.IntRange(1), default=64, show_default=True, help="Episodes in the model at once.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--episodes", type=click.IntRange(1), default=10, show_default=True, help="In the real environment.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Most frames of each of these.")
@click.option("--out", type=click.Path(path_type=Path), help="File for the policy.")
def command(
    model: Path, logs: str, name: str, frames: int, envs: int, seed: int, episodes: int, steps: int, out: Path | None
) -> None:
    """Train a policy inside MODEL from starts in LOGS, and run it in a real environment."""
    torch.set_num_threads(1)  # so small networks are slower on more
    policy = learner(WorldModelVecEnv(model, logs, envs), seed).learn(frames)
    if out:
        policy.save(out)
    real = gymnasium.make(name)
    real.action_space.seed(seed)
    for called, act in (
        ("policy", lambda seen: policy.predict(seen, deterministic=True)[0]),
        ("random", lambda _: real.action_space.sample()),
    ):
        found = returns(real, act, episodes, steps)
        spread = f"{min(found):.0f} to {max(found):.0f}"
        print(f"{called}: return {np.mean(found):.1f} ({spread}) over {episodes} episodes of {name}")


if __name__ == "__main__":
    run(command)
