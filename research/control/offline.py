"""Policies learnt from the same logs, by d3rlpy, for the seconds of the processor that ours took.

Numbers are d3rlpy's own, which are the papers'; observations are standardized and actions take the range of the logs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.peers.training import Logs
from worldmodel.core.typing import Reals
from worldmodel.episodes.table import Table

LEAST = 1e-6  # standard deviation
# The config's name where actions are continuous, and where they are discrete.
METHODS = {
    "bc": ("BCConfig", "DiscreteBCConfig"),
    "td3+bc": ("TD3PlusBCConfig", ""),
    "iql": ("IQLConfig", ""),
    "cql": ("", "DiscreteCQLConfig"),
}


@dataclass
class Learnt:
    algorithm: Any  # d3rlpy's
    decode: Callable[[Any], Any]

    def reset(self) -> None:
        """It remembers nothing."""

    def act(self, observation: Reals) -> Any:
        return self.decode(self.algorithm.predict(np.asarray(observation, np.float32)[None])[0])


def learnt(name: str, logs: Logs, seconds: float, seed: int) -> tuple[Learnt, dict[str, float]]:
    """With what its training took. Raises ValueError where d3rlpy is not there."""
    try:
        import d3rlpy
    except ImportError as error:
        raise ValueError(
            f"{name} needs d3rlpy ({error}); `pip install '.[research]'` and `pip install --no-deps d3rlpy`, or leave "
            "the row out with --rows"
        ) from error
    begin, discrete = time.process_time(), logs.action_space.kind == "discrete"
    d3rlpy.seed(seed)
    config = getattr(d3rlpy.algos, METHODS[name][discrete])
    algorithm = config(**scalers(logs, d3rlpy.preprocessing)).create(device=False)
    data = dataset(logs, d3rlpy.dataset)
    algorithm.build_with_dataset(data)
    updates = 0
    while time.process_time() - begin < seconds or not updates:
        algorithm.update(data.sample_transition_batch(algorithm.batch_size))
        updates += 1
    spent = {"seconds": time.process_time() - begin, "updates": updates}
    return Learnt(algorithm, int if discrete else np.asarray), spent


def scalers(logs: Logs, made_by: Any) -> dict[str, Any]:
    """Of the train episodes."""
    tables = [each.table() for each in logs.train]
    features = np.concatenate([table.features for table in tables])
    std = np.maximum(features.std(axis=0), LEAST)
    found = {"observation_scaler": made_by.StandardObservationScaler(mean=features.mean(axis=0), std=std)}
    if logs.action_space.kind == "discrete":
        return found
    actions = np.concatenate([table.actions for table in tables if table.actions is not None])
    ends = {"minimum": actions.min(axis=0), "maximum": actions.max(axis=0)}
    return found | {"action_scaler": made_by.MinMaxActionScaler(**ends)}


def dataset(logs: Logs, made_by: Any) -> Any:
    """Train episodes; a recording that stopped is no end of the task."""
    return made_by.create_infinite_replay_buffer(
        [_episode(each.table(), each.terminal, made_by) for each in logs.train]
    )


def _episode(table: Table, terminal: bool, made_by: Any) -> Any:
    assert table.actions is not None
    assert table.rewards is not None
    actions = table.actions[:, None] if table.actions.ndim == 1 else table.actions.astype(np.float32)
    columns = table.features.astype(np.float32), actions, table.rewards.astype(np.float32)[:, None]
    return made_by.Episode(*columns, terminated=terminal)
