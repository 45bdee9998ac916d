"""A file or folder of another format as a source of episodes, each of them checked."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.addresses import reason
from worldmodel.core.regular import problem
from worldmodel.core.typing import Doubles
from worldmodel.episodes.columns import Column, Columns
from worldmodel.episodes.frame import FLOAT32_MAX, MAX_ACTIONS, parse_agent
from worldmodel.episodes.schema import Episode
from worldmodel.episodes.table import Table
from worldmodel.readers.field_map import FieldMap, read_map

FORMATS = ("lerobot", "minari", "robomimic", "d4rl", "parquet", "csv", "mcap", "ulog")
HDF5 = (".hdf5", ".h5")
TABLES = (".parquet", ".csv", ".csv.gz")
SUFFIXES = (*HDF5, *TABLES, ".mcap", ".ulg")
INSTALL = "pip install 'worldmodel[formats]'"
PARTS = ("features", "actions", "context")  # of a frame, that have names


class Reader(Protocol):
    """A format; each module of FORMATS is one."""

    KEYS: tuple[str, ...]  # of a FieldMap, that mean something

    def recognizes(self, path: Path) -> bool: ...
    def episodes(self, source: "Source") -> Iterator[Episode]: ...


@dataclass
class Source:
    """Iterating reads the episodes, one in memory at a time. Features are float64, NaN where a reading is missing.

    Raises ValueError with path, episode and row where the source is broken, or holds what no log may.
    """

    path: Path
    reader: Reader
    fields: FieldMap = field(default_factory=FieldMap)
    columns: Columns = field(default_factory=Columns)  # known by the time the first episode comes
    left_out: dict[str, str] = field(default_factory=dict)  # name -> what it is
    _shapes: tuple[Any, ...] = ()  # of the first episode's frames

    def __iter__(self) -> Iterator[Episode]:
        episodes, found = self.reader.episodes(self), None
        while True:
            with telling(self.path, f" behind episode {found.name}" if found else ""):
                episode = next(episodes, None)
            if episode is None:
                break
            found = episode
            yield episode
        if found is None:
            raise ValueError(f"{self.path}: holds no episode; record one")

    def name(self, **names: Sequence[str]) -> None:
        """What the numbers of PARTS are called; the field map may tell more of each."""
        told = self.fields.columns
        self.columns = Columns(
            **{part: tuple(replace(told.get(name, Column()), name=name) for name in names[part]) for part in names}
        )
        known = {name for each in names.values() for name in each}
        if unknown := sorted(told.keys() - known):
            raise ValueError(f"columns: {unknown[0]} is none of what is read: {', '.join(sorted(known))}")

    def episode(
        self,
        place: str,
        name: str,
        timestamps: NDArray[Any],  # [T] seconds
        features: NDArray[Any],  # [T, ...]
        actions: NDArray[Any] | None = None,  # [T, ...]; integers of one dimension are choices
        rewards: NDArray[Any] | None = None,  # [T]
        context: NDArray[Any] | None = None,  # [T, C]
        agent_id: str | None = None,  # or else the name of the file
        rows: NDArray[Any] | None = None,  # [T] number of each, as the place counts
        terminal: bool = False,
        truncated: bool = False,  # means nothing where the task ended
    ) -> Episode:
        """Of an episode as the source holds it, numbers of any type. The last frame may lack action and reward.

        Raises ValueError that names the place, and the row where it is about one.
        """
        length = len(timestamps)
        if not length:
            raise ValueError(f"{place}: holds no frame; leave it out")
        if actions is not None and not (actions.ndim == 1 and actions.dtype.kind in "biu"):
            actions = _floats(_completed(actions.reshape(length, -1), hold=True))
        table = Table(
            timestamps.astype(np.float64),
            features.reshape(length, -1).astype(np.float64),
            actions.astype(np.int64) if actions is not None and actions.ndim == 1 else actions,
            None if rewards is None else _floats(_completed(rewards.reshape(length, 1), hold=False))[:, 0],
            None,
            None if context is None else _floats(context),
        )
        self._require_alike(place, table)
        self._require_readable(place, np.arange(length) if rows is None else rows, table)
        try:
            agent = parse_agent(self.path.name.removesuffix(".gz").rpartition(".")[0] if agent_id is None else agent_id)
            return Episode(agent, name, **table._asdict(), terminal=terminal, truncated=truncated and not terminal)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    def _require_alike(self, place: str, table: Table) -> None:
        shapes = tuple(None if array is None else (array.dtype.kind, array.shape[1:]) for array in table)
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            found, expected = _told(shapes), _told(self._shapes)
            raise ValueError(f"{place}: frames hold {found}, expected {expected} as in the first episode")

    def _require_readable(self, place: str, rows: NDArray[Any], table: Table) -> None:
        for part, array in table._asdict().items():
            if array is not None:
                self._require_finite(place, rows, part, array)
        back = np.flatnonzero(np.diff(table.timestamps) <= 0)
        if len(back):
            before, after = table.timestamps[back[0] : back[0] + 2].tolist()
            raise ValueError(f"{place}, row {rows[back[0] + 1]}: {after} s after {before} s, expected time that grows")
        if table.actions is not None and table.actions.ndim == 1 and table.actions.max() >= MAX_ACTIONS:
            most = f"integers below {MAX_ACTIONS}; give it as a vector"
            raise ValueError(f"{place}: action {table.actions.max()}, expected {most}")

    def _require_finite(self, place: str, rows: NDArray[Any], part: str, array: NDArray[Any]) -> None:
        bad = np.abs(array) > FLOAT32_MAX if part == "features" else ~np.isfinite(array)
        if not bad.any():
            return
        row, number = np.argwhere(bad.reshape(len(bad), -1))[0].tolist()
        names = [each.name for each in getattr(self.columns, part, ())]
        shown = names[number] if names else f"{part}[{number}]" if part in PARTS else part
        found = array.reshape(bad.shape[0], -1)[row, number]
        flaw = "is missing" if np.isnan(found) else f"is {found:g}, expected a finite float32 number"
        raise ValueError(f"{place}, row {rows[row]}: {shown} {flaw}; mend it, or leave out what holds it")


def open_source(path: Path, fields: FieldMap | None = None, form: str | None = None) -> Source:
    """Of the format, or else of the first one that recognizes it. Raises ValueError where none does, or cannot tell."""
    fields = fields or FieldMap()
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir() and (flaw := problem(path)):
        raise ValueError(f"{path}: {flaw}")
    for name in (form,) if form else FORMATS:
        reader = reader_of(name)
        with telling(path):
            known = form is not None or reader.recognizes(path)
        if known:
            fields.require(reader.KEYS, name)
            return Source(path, reader, fields)
    raise ValueError(f"{path}: not of a known format ({', '.join(FORMATS)}); convert it, or name its --format")


def reader_of(form: str) -> Any:
    return import_module(f"worldmodel.readers.{form}")


def is_source(path: Path) -> bool:
    """A data set's folder, HDF5, a file with its map beside it, or a table whose columns are called as in our logs."""
    if path.is_dir():
        return any(reader_of(form).recognizes(path) for form in ("lerobot", "minari"))
    if not path.name.endswith(SUFFIXES) or not path.is_file():
        return False
    return path.name.endswith(HDF5) or map_of(path).is_file() or is_named(path.name, path.open)


def is_named(name: str, opened: Callable[[Literal["rb"]], Any]) -> bool:
    """Whether a table's columns are called as in our logs; true as well where none can be read: reading tells why."""
    if not name.endswith(TABLES):
        return False
    try:
        with opened("rb") as stream:
            known = reader_of("parquet" if name.endswith(".parquet") else "csv").names(stream, name)
            return bool(reader_of("tables").counted("features", known))
    except Exception:  # each library has some of its own
        return True


def source_at(path: Path) -> Source:
    """Of what lies among logs. Raises as open_source and read_map do."""
    return open_source(path, read_map(map_of(path)) if map_of(path).is_file() else None)


def map_of(path: Path) -> Path:
    """Beside log.csv, log.csv.yaml."""
    return path.with_name(f"{path.name}.yaml")


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


def in_seconds(times: NDArray[Any], parts: int) -> Doubles:
    """Of times in so many parts of a second; whole numbers keep digits that a float64 of them would lose."""
    with np.errstate(invalid="ignore"):
        whole, rest = np.divmod(times, parts)
    return whole + rest / parts


def _completed(values: NDArray[Any], hold: bool) -> NDArray[Any]:
    """[T, k] whose last row has what the row before has, or 0, where it lacks all: nothing follows it."""
    if values.dtype.kind != "f" or not np.isnan(values[-1]).all():
        return values
    last = values[-2:-1] if hold and len(values) > 1 else np.zeros_like(values[:1])
    return np.concatenate([values[:-1], last])


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _told(shapes: Sequence[Any]) -> str:
    of = dict(zip(Table._fields, shapes, strict=True))
    kind, width = of["actions"] or ("", ())
    action = f"actions of {width[0]} numbers" if width else "an integer action" if kind else "no action"
    context = f", {of['context'][1][0]} numbers of context" if of["context"] else ""
    return f"{of['features'][1][0]} features, {action}{context} and {'a' if of['rewards'] else 'no'} reward"
