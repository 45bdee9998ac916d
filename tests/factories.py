"""Tiny episodes of a linear system, and logs of them, for every test that needs data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.logs import write_jsonl
from worldmodel.params import Intake
from worldmodel.schema import ActionSpace, Episode, Kind, Source

START = 1_690_000_000.0  # seconds


def make_episodes(
    count: int = 6,
    length: int = 12,
    features: int = 2,
    actions: int = 3,
    seed: int = 0,
    *,
    kind: Kind = "continuous",
    rewards: bool = True,
    agents: int = 2,
    source: Source = "observed",
    noise: float = 0.01,
    **fields: Any,
) -> list[Episode]:
    """Episodes of x' = 0.9 x + B a + noise with reward -|x|^2; B depends on the sizes alone, all else on the seed."""
    return [
        make_episode(
            np.random.default_rng([seed, index]),
            length,
            features,
            actions,
            kind,
            noise,
            **{"agent_id": f"agent-{index % agents}", "name": f"{source}-{index}", "source": source}
            | ({} if rewards else {"rewards": None})
            | fields,
        )
        for index in range(count)
    ]


def make_episode(
    rng: np.random.Generator, length: int, features: int, actions: int, kind: Kind, noise: float, **fields: Any
) -> Episode:
    """One episode; a dream gets a confidence. `fields` override what is generated."""
    taken = _actions(rng, length, actions, kind)
    effect = np.random.default_rng([features, actions]).normal(0, 0.5, (actions, features))
    pushes = np.zeros((length, features)) if taken is None else ActionSpace(kind, actions).encode(taken) @ effect
    states = [rng.normal(0, 1, features)]
    for push in pushes[:-1]:
        states.append(0.9 * states[-1] + push + rng.normal(0, noise, features))
    x = np.array(states, np.float32)
    generated = {
        "timestamps": START + rng.integers(0, 10**6) + np.arange(length, dtype=np.float64),
        "features": x,
        "actions": taken,
        "rewards": -(x**2).sum(1).astype(np.float32),
    }
    if fields.get("source") == "dream":
        generated["confidence"] = rng.uniform(0, 1, length).astype(np.float32)
    return Episode(**(generated | fields))


def _actions(rng: np.random.Generator, length: int, actions: int, kind: Kind) -> Any:
    if kind == "none":
        return None
    if kind == "discrete":
        return rng.permutation(np.arange(length) % actions)  # every action occurs, so that A is `actions`
    return rng.uniform(-1, 1, (length, actions)).astype(np.float32)


def write_logs(folder: Path, episodes: Iterable[Episode], name: str = "log.jsonl") -> Path:
    """One canonical log file in the folder; returns the folder."""
    write_jsonl(folder / name, episodes)
    return folder


def make_intake(**fields: Any) -> Intake:
    """The intake that tests start from; small data sets need large held-out shares."""
    defaults = {
        "seed": 1,
        "split_by": "episode",
        "val_share": 0.2,
        "test_share": 0.2,
        "train_episodes": 0,
        "max_gap_s": 60.0,
        "max_rejected_share": 0.0,
    }
    return Intake(**(defaults | fields))
