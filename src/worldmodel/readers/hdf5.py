"""What the formats that lie in HDF5 share: opening, sorting, and numbers side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles
from worldmodel.readers.source import HDF5, Source

JPEG = b"\xff\xd8\xff"


def opened(path: Path) -> Any:
    import h5py

    return h5py.File(path, "r")


def holds(path: Path, start: str, group: str = "") -> bool:
    """Whether the file, or the group in it, has a member whose name starts so."""
    if path.is_dir() or path.suffix not in HDF5:
        return False
    with opened(path) as file:
        members = file.get(group) if group else file
        return hasattr(members, "keys") and any(name.startswith(start) for name in members)


def numbered(group: Any, start: str) -> list[tuple[str, Any]]:
    """Members whose name is `start` and a number, sorted by the number."""
    names = [name for name in group if name.startswith(start) and name.removeprefix(start).isdecimal()]
    return [(name, group[name]) for name in sorted(names, key=lambda name: int(name.removeprefix(start)))]


class SideBySide(NamedTuple):
    """Numeric datasets of one length."""

    datasets: tuple[Any, ...]

    def rows(self, begin: int = 0, end: int | None = None) -> NDArray[Any]:
        """As they are where there is one [T, ...], else [T, sum of their sizes]."""
        parts = [dataset[begin:end] for dataset in self.datasets]
        return parts[0] if len(parts) == 1 else np.concatenate([each.reshape(len(each), -1) for each in parts], axis=1)

    def names(self) -> list[str]:
        """One for each number of a frame."""
        sizes = [(each.name.rpartition("/")[2], int(np.prod(each.shape[1:]))) for each in self.datasets]
        return [f"{name}.{n}" if size > 1 else name for name, size in sizes for n in range(size)]


def observed_and_taken(source: Source, group: Any, observations: str) -> tuple[SideBySide, SideBySide]:
    """Features and actions of a group, and what their numbers are called."""
    observed = numbers(group, source.fields.features or (observations,), source)
    taken = numbers(group, ("actions",), source)
    source.name(features=observed.names(), actions=taken.names())
    return observed, taken


def numbers(group: Any, paths: Sequence[str], source: Source) -> SideBySide:
    """All numbers below the paths in a group, sorted by name below each. Raises ValueError where there are none."""
    taken = []
    for path, leaf in (found for each in paths for found in _leaves(group, each)):
        if what := _no_numbers(leaf):
            source.left_out[path] = what
        else:
            taken.append(leaf)
    if not taken:
        raise ValueError(f"{group.name} holds {', '.join(group)} and no numbers in {', '.join(paths)}")
    if len({len(leaf) for leaf in taken}) > 1:
        lengths = ", ".join(f"{leaf.name}: {len(leaf)}" for leaf in taken)
        raise ValueError(f"{group.name}: rows differ in number, expected one for each frame: {lengths}")
    return SideBySide(tuple(taken))


def _leaves(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    if path not in group:
        raise ValueError(f"{group.name} holds {', '.join(group)}, expected {path}")
    member = group[path]
    if hasattr(member, "keys"):
        for name in sorted(member):
            yield from _leaves(group, f"{path}/{name}")
    else:
        yield path, member


def _no_numbers(leaf: Any) -> str:
    """What it is instead."""
    what = f"{leaf.dtype} {list(leaf.shape[1:])}"
    if not leaf.shape or leaf.dtype.kind not in "biuf":
        return what
    images = leaf.dtype == np.uint8 and leaf.ndim > 1 and len(leaf)
    return what if images and (leaf.ndim > 2 or leaf[0, :3].tobytes() == JPEG) else ""


def frame_times(length: int, rate: float | None) -> Doubles:
    """[T] seconds of what has no clock; a frame a second where nothing is known of the rate (1/s)."""
    return np.arange(length, dtype=np.float64) / (rate or 1.0)
