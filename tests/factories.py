"""Tiny episodes of a linear system, their logs and packed arrays, and small settings: what every test starts from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.arrays import scaler
from worldmodel.arrays.packing import encoded, labels_of, pack
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Labels, Packed
from worldmodel.core import params
from worldmodel.core.params import Prepare
from worldmodel.episodes.schema import ActionSpace, Episode, Kind, Source
from worldmodel.episodes.table import Table
from worldmodel.logs.writing import write_jsonl

START = 1_690_000_000.0  # seconds
PARAMS = params.load(Path(__file__).parents[1] / "params.yaml", params.Params)
STAGES = {
    "dreams": params.DreamsStage,
    "prepare": params.PrepareStage,
    "normalize": params.NormalizeStage,
    "train": params.TrainStage,
    "export": params.ExportStage,
    "validate": params.ValidateStage,
}


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


def make_intake(**fields: Any) -> Prepare:
    """The intake that tests start from; small data sets need large held-out shares."""
    return replace(PARAMS.prepare, **({"val_share": 0.2, "test_share": 0.2} | fields))


def make_train(**fields: Any) -> params.Train:
    """The smallest training that still learns something."""
    small = {"encoder": "mlp", "history": 3, "horizon": 4, "z_dim": 8, "hidden_dim": 16, "batch_size": 8, "steps": 12}
    small |= {"policy_steps": 2}
    return replace(PARAMS.train, **(small | fields))


def make_dreams(teacher: dict[str, Any] | None = None, **fields: Any) -> params.Dreams:
    """A few short dreams of a small teacher; `teacher` overrides its fields."""
    small = {"members": 2, "horizon": 5, "steps": 4, "batch_size": 8, "dropout": 0.0, "points": 0}
    small |= {"transition_steps": 0, "z_dim": 8, "hidden_dim": 16}
    few = {"episodes": 6, "length": 4, "directed_share": 0.3, "max_disagreement": 1e6, "simulator": "no:simulator"}
    chosen = replace(PARAMS.dreams.teacher, **(small | (teacher or {})))
    return replace(PARAMS.dreams, **(few | fields), teacher=chosen)


def make_normalize(**fields: Any) -> params.Normalize:
    return replace(PARAMS.normalize, **fields)


def space_of(episodes: Sequence[Episode]) -> ActionSpace:
    """The action space that these episodes show."""
    taken = [episode.actions for episode in episodes if episode.actions is not None]
    if not taken:
        return ActionSpace("none", 0)
    if taken[0].ndim == 1:
        return ActionSpace("discrete", 1 + max(int(actions.max()) for actions in taken))
    return ActionSpace("continuous", taken[0].shape[1])


def make_tables(episodes: Sequence[Episode]) -> list[Table]:
    """With actions encoded."""
    return [encoded(episode.table(), space_of(episodes)) for episode in episodes]


def make_scaler(episodes: Sequence[Episode], **fields: Any) -> Scaler:
    """Scales fitted on all that is given."""
    settings = make_normalize(**fields)
    one_hot = space_of(episodes).kind == "discrete"
    return scaler.fit(make_tables(episodes), settings.method, settings.min_std, one_hot)


def make_labels(episodes: Sequence[Episode], splits: Sequence[str] | None = None) -> Labels:
    """All train unless told otherwise."""
    return labels_of(episodes, splits or ["train"] * len(episodes))


def make_packed(
    episodes: Sequence[Episode], splits: Sequence[str] | None = None, scales: Scaler | None = None
) -> Packed:
    """Episodes end to end in standardized units of their own, or in those of `scales`."""
    packed = pack(make_tables(episodes), scales or make_scaler(episodes))
    return replace(packed, labels=make_labels(episodes, splits))
