"""Episode and ActionSpace: the one form of logged and dreamed trajectories, and the checks that make one valid.

Shapes: T frames, F features, A actions, C context.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Floats, Reals
from worldmodel.episodes.frame import META_KEYS, Frame, SameData, is_finite, shortest
from worldmodel.episodes.table import Table

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

Source = Literal["observed", "dream"]
Split = Literal["train", "val", "test"]
Kind = Literal["none", "discrete", "continuous"]


def canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII. Raises ValueError for NaN and infinities."""
    return _CANONICAL.encode(value)


def identity_of(agent_id: str, name: str) -> str:
    """The text that the split hashes, the same for every segment of an episode and in every log."""
    return canonical([agent_id, name])


def origin_of(agent_id: str, name: str, segment: int, source: Source, start: Any) -> tuple[str, int]:
    """Logged segment ("" if unknown) and frame in it that an episode begins at; `start` is a dream's meta.start."""
    if source == "observed":
        return canonical([agent_id, name, segment]), 0
    if start is None:
        return "", 0
    return canonical([start["agent_id"], str(start["episode"]), start.get("segment", 0)]), start.get("frame", 0)


class Named:
    """What has the name and the times of an episode."""

    __slots__ = ()
    agent_id: str
    name: str
    timestamps: Doubles

    @property
    def begin(self) -> float:
        """Seconds."""
        return float(self.timestamps[0])

    @property
    def end(self) -> float:
        return float(self.timestamps[-1])

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)

    def numbered(self, segment: int, name: str | None = None) -> Self:
        return replace(self, segment=segment, name=name or self.name)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class Episode(Named, SameData):
    """An unbroken segment of a trajectory: actions[t] is taken at features[t] and leads to features[t+1].

    Raises ValueError that names the episode and the field whose type, shape or value is wrong.
    """

    agent_id: str
    name: str  # of the whole episode within its agent; all segments share it
    timestamps: NDArray[np.float64]  # [T] seconds, increasing
    features: Reals  # [T, F], float64 where float32 would lose what moves; NaN where a reading is missing
    actions: NDArray[np.int64] | Floats | None = None  # [T] discrete, [T, A] continuous
    rewards: Floats | None = None  # [T]
    confidence: Floats | None = None  # [T] 0..1, dreams only
    context: Floats | None = None  # [T, C], what is known ahead
    segment: int = 0  # each begins after a hole in the log
    source: Source = "observed"
    split: Split | None = None  # overrides the hash
    terminal: bool = False  # the last frame ended the task
    truncated: bool = False  # the recording stopped at the last frame
    provenance: Mapping[str, Any] = field(default_factory=dict)  # free meta of a dream's first frame

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(f"episode {self.name!r} of agent {self.agent_id!r}: {problem}")

    def _problems(self) -> Iterator[str]:
        yield from self._array_problems()
        if not (self.timestamps[1:] > self.timestamps[:-1]).all():
            yield "timestamps stand still or run backwards, expected increasing ones"
        if self.confidence is not None and not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            yield "confidence leaves 0..1"
        if self.actions is not None and self.actions.ndim == 1 and self.actions.min() < 0:
            yield f"actions hold {self.actions.min()}, expected integers >= 0"
        if not self.agent_id or not self.name or self.segment < 0:
            yield "agent_id or name is empty, or segment negative"
        if self.source == "observed" and (self.provenance or self.confidence is not None):
            yield "an observed episode has provenance or confidence, which only dreams have"
        if self.source == "dream" and self.split not in (None, "train"):
            yield f"split is {self.split}, expected train: a dream is never held out"
        if self.provenance and not _free(self.provenance):
            yield f"provenance holds {sorted(self.provenance)}, expected JSON values under keys that no frame has"

    def _array_problems(self) -> Iterator[str]:
        discrete = self.actions is not None and self.actions.ndim == 1
        wide = np.float64 if self.features.dtype == np.float64 else np.float32
        for name, array, scalar, dimensions in (
            ("timestamps", self.timestamps, np.float64, 1),
            ("features", self.features, wide, 2),
            ("actions", self.actions, np.int64 if discrete else np.float32, 1 if discrete else 2),
            ("rewards", self.rewards, np.float32, 1),
            ("confidence", self.confidence, np.float32, 1),
            ("context", self.context, np.float32, 2),
        ):
            if array is not None and (problem := _misfit(array, scalar, dimensions, self.length, name == "features")):
                yield f"{name} {problem}"

    @property
    def length(self) -> int:
        """T, the number of frames."""
        return len(self.timestamps)

    def narrowed(self) -> Self:
        """With float32 features."""
        wide = self.features.dtype != np.float32
        return replace(self, features=self.features.astype(np.float32)) if wide else self

    def whole(self) -> Self:
        return self

    def between(self, begin: int, end: int) -> Self:
        """Some of the frames; the last of them ends the episode where it did so before."""
        table = self.table().map(lambda column: column[begin:end])
        terminal, truncated = (ended and end == self.length for ended in (self.terminal, self.truncated))
        return replace(self, **table._asdict(), terminal=terminal, truncated=truncated)

    def table(self) -> Table:
        return Table(self.timestamps, self.features, self.actions, self.rewards, self.confidence, self.context)

    def to_frames(self) -> list[Frame]:
        """Frames that are read back from a log as an equal episode."""
        return [
            Frame(
                self.agent_id,
                float(self.timestamps[t]),
                self._decimals(t),
                self._action(t),
                None if self.rewards is None else float(self.rewards[t]),
                None if self.context is None else self.context[t],
                self._meta(t),
            )
            for t in range(self.length)
        ]

    def _decimals(self, t: int) -> Doubles:
        """[F]; of a float32 the shortest number that reads back as it, so that its text is short."""
        row = self.features[t]
        return np.array(shortest(row), np.float64) if row.dtype == np.float32 else row.astype(np.float64)

    def _action(self, t: int) -> int | Floats | None:
        if self.actions is None:
            return None
        return int(self.actions[t]) if self.actions.ndim == 1 else self.actions[t].astype(np.float32, copy=False)

    def _meta(self, t: int) -> dict[str, Any]:
        """Meta of frame t. The first frame describes the whole episode; a dream names its source in every frame."""
        meta: dict[str, Any] = {"episode": self.name}
        if t == 0:
            meta["episode_segment"] = self.segment
        if t == 0 or self.source == "dream":
            meta["source"] = self.source
        if t == 0 and self.split is not None:
            meta["split"] = self.split
        if self.confidence is not None:
            meta["confidence"] = shortest(self.confidence[t : t + 1])[0]
        if t == self.length - 1 and self.terminal:
            meta["terminal"] = True
        if t == self.length - 1 and self.truncated:
            meta["truncated"] = True
        return meta | (json.loads(canonical(dict(self.provenance))) if t == 0 else {})


def _free(meta: Mapping[str, Any]) -> bool:
    return not META_KEYS & set(meta) and bool(json.loads(canonical(dict(meta))) == meta)


def _misfit(array: NDArray[Any], scalar: type[np.generic], dimensions: int, length: int, holes: bool) -> str:
    if array.dtype != scalar or array.ndim != dimensions or len(array) != length or array.size == 0:
        shape = f"[{length}]" if dimensions == 1 else f"[{length}, 1 or more]"
        return f"is {array.dtype} {list(array.shape)}, expected {scalar.__name__} {shape}"
    if is_finite(array) or (holes and not np.isinf(array).any()):
        return ""
    return f"holds {'' if holes else 'NaN or '}infinity, expected finite numbers"


@dataclass(frozen=True)
class ActionSpace:
    """The actions of a data set: none (size 0), integers below `size`, or vectors of `size` numbers."""

    kind: Kind
    size: int

    def encode(self, actions: NDArray[np.int64] | Floats | None) -> Floats | None:
        """Actions as float32 [T, size] (integers one-hot); None stays None. Raises ValueError where they do not fit."""
        if self.kind == "none" and actions is None:
            return None
        if (
            self.kind == "discrete"
            and actions is not None
            and actions.ndim == 1
            and 0 <= actions.min() <= actions.max() < self.size
        ):
            return np.eye(self.size, dtype=np.float32)[actions.astype(np.int64)]
        if self.kind == "continuous" and actions is not None and actions.shape[1:] == (self.size,):
            return actions.astype(np.float32)
        found = "none" if actions is None else f"{actions.dtype} {list(actions.shape)}"
        raise ValueError(f"actions: found {found}, expected {self.kind} actions of size {self.size}")

    def decode(self, actions: Floats) -> NDArray[np.int64] | Floats | None:
        """The inverse of encode, from [T, size]; of a discrete action, the index of the largest number."""
        if self.kind == "none":
            return None
        return actions.argmax(axis=1) if self.kind == "discrete" else actions
