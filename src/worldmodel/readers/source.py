"""A file or folder of another format as a source of episodes, each of them checked."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.addresses import reason
from worldmodel.core.regular import problem
from worldmodel.core.typing import Floats
from worldmodel.episodes.frame import MAX_ACTIONS, is_finite, parse_agent
from worldmodel.episodes.schema import Episode
from worldmodel.readers.field_map import FieldMap

FORMATS = ("lerobot", "minari", "robomimic", "d4rl", "parquet", "csv", "mcap", "ulog")
HDF5 = (".hdf5", ".h5")
SUFFIXES = (*HDF5, ".parquet", ".csv", ".csv.gz", ".mcap", ".ulg")
INSTALL = "pip install 'worldmodel[formats]'"


@dataclass
class Names:
    """What a source calls its numbers; filled by the time its first episode comes."""

    features: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # name -> what it is


class Recorded(NamedTuple):
    """An episode as its source holds it: T frames, numbers of any type."""

    agent_id: str
    name: str
    place: str  # in the source
    row: int  # of the first frame, as the place counts
    timestamps: NDArray[Any]  # [T] seconds
    features: NDArray[Any]  # [T, ...]
    actions: NDArray[Any] | None  # [T, ...]
    rewards: NDArray[Any] | None  # [T]
    terminal: bool


class Reader(Protocol):
    """A format; each module of FORMATS is one."""

    KEYS: tuple[str, ...]  # of a FieldMap, that mean something

    def recognizes(self, path: Path) -> bool: ...
    def episodes(self, path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]: ...


@dataclass
class Source:
    """Iterating reads the episodes, one in memory at a time.

    Raises ValueError with path, episode and row where the source is broken, or holds what no log may. Missing readings
    are counted over the whole source and told at its end.
    """

    path: Path
    reader: Reader
    fields: FieldMap = field(default_factory=FieldMap)
    names: Names = field(default_factory=Names)
    _missing: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)  # where each is missing first
    _shape: tuple[object, ...] = ()  # of the first episode's frames

    def __iter__(self) -> Iterator[Episode]:
        rows, found = 0, None
        episodes = self.reader.episodes(self.path, self.fields, self.names)
        while True:
            with telling(self.path, f" behind {found.place}" if found else ""):
                found = next(episodes, None)
            if found is None:
                break
            rows += len(found.timestamps)
            if (episode := self._episode(found)) is not None:
                yield episode
        if self._missing:
            listed = ", ".join(f"{name}: {count} ({self._first[name]})" for name, count in self._missing.items())
            raise ValueError(
                f"{self.path}: readings are missing or no finite float32 in {rows} rows: {listed}; "
                "fill them, or leave the column or the episodes out"
            )
        if not rows:
            raise ValueError(f"{self.path}: holds no episode; record one")

    def _episode(self, found: Recorded) -> Episode | None:
        """None where a reading is missing."""
        length, at = len(found.timestamps), f"{self.path}: {found.place}"
        if not length:
            raise ValueError(f"{at}: holds no frame; leave it out")
        features, actions = _floats(found.features).reshape(length, -1), _actions(found.actions)
        rewards = None if found.rewards is None else _floats(found.rewards).reshape(length)
        shape = features.shape[1:], None if actions is None else (actions.dtype, actions.shape[1:]), rewards is None
        if shape != (self._shape or shape):
            raise ValueError(f"{at}: frames hold {_told(shape)}, expected {_told(self._shape)} as in the first episode")
        self._shape = shape
        timestamps = found.timestamps.astype(np.float64)
        whole = self._whole(found, "timestamp", timestamps, [])
        whole &= self._whole(found, "features", features, self.names.features)
        whole &= self._whole(found, "action", actions, self.names.actions)
        if not self._whole(found, "reward", rewards, []) or not whole:
            return None
        for row in np.flatnonzero(timestamps[1:] <= timestamps[:-1]):
            times = f"{float(timestamps[row + 1])!r} s after {float(timestamps[row])!r} s"
            raise ValueError(f"{at}, row {found.row + row + 1}: {times}, expected time that grows within an episode")
        try:
            if actions is not None and actions.ndim == 1 and actions.max() >= MAX_ACTIONS:
                raise ValueError(f"action {actions.max()}, expected integers below {MAX_ACTIONS}; give it as a vector")
            agent = parse_agent(found.agent_id)
            return Episode(agent, found.name, timestamps, features, actions, rewards, terminal=found.terminal)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from None

    def _whole(self, found: Recorded, kind: str, array: NDArray[Any] | None, names: list[str]) -> bool:
        if array is None or is_finite(array):
            return True
        missing = ~np.isfinite(array.reshape(len(array), -1))
        for column in np.flatnonzero(missing.any(axis=0)):
            name = names[column] if column < len(names) else f"{kind}.{column}" if missing.shape[1] > 1 else kind
            self._missing[name] += int(missing[:, column].sum())
            row = found.row + int(missing[:, column].argmax())
            self._first.setdefault(name, f"first in {found.place}, row {row}")
        return False


def open_source(path: Path, fields: FieldMap | None = None, form: str | None = None) -> Source:
    """`form` is one of FORMATS, or what recognizes the path. Raises ValueError where none does."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir() and (flaw := problem(path)):
        raise ValueError(f"{path}: {flaw}")
    fields = fields or FieldMap()
    for name in FORMATS if form is None else (form,):
        reader: Reader = import_module(f"worldmodel.readers.{name}")
        with telling(path):
            known = form is not None or reader.recognizes(path)
        if known:
            fields.require(reader.KEYS, name)
            return Source(path, reader, fields)
    raise ValueError(f"{path}: not of a known format ({', '.join(FORMATS)}); convert it, or name its --format")


@contextmanager
def telling(path: Path, where: str = "") -> Iterator[None]:
    """Raises ValueError that says in one line what a format's library found wrong, and where."""
    try:
        yield
    except MemoryError:
        raise
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: needs {error.name}, which is not installed; {INSTALL}") from None
    except Exception as error:  # each library has some of its own
        if type(error) is ValueError:
            raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
        raise ValueError(
            f"{path}: cannot be read{where} ({reason(error)}); if it is broken, copy it again from where it came from"
        ) from None


def in_seconds(times: NDArray[Any], parts: int) -> NDArray[np.float64]:
    """Of times in so many parts of a second; whole numbers keep digits that a float64 of them would lose."""
    with np.errstate(invalid="ignore"):
        whole, rest = np.divmod(times, parts)
    return whole + rest / parts


def _floats(array: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _actions(array: NDArray[Any] | None) -> NDArray[Any] | None:
    """Integers of one dimension [T] are choices; all else is a vector [T, A]."""
    if array is None or (array.ndim == 1 and array.dtype.kind in "biu"):
        return None if array is None else array.astype(np.int64)
    return _floats(array).reshape(len(array), -1)


def _told(shape: Any) -> str:
    (features,), action, unrewarded = shape
    kind = "no action" if action is None else f"actions of {action[1][0]} numbers" if action[1] else "an integer action"
    return f"{features} features, {kind} and {'no reward' if unrewarded else 'a reward'}"
