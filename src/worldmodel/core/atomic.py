"""Whole files and folders or none: a reader never meets a half-written one, not even after kill -9."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from worldmodel.core import locking
from worldmodel.core.parent import remove, require_parent, unpublished
from worldmodel.core.temporary import naming

LEFT = ".*.tmp"  # what a process that was killed may leave


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place only if the block succeeds."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            require_parent()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def publishing(*outs: Path, own: Sequence[str]) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path for each out, file or folder; they take their places together, if the block succeeds.

    The first is locked meanwhile: raises ValueError, with the holder's pid, where another process writes it. Of a
    folder that is there, what goes by one of the patterns `own` is replaced, and what else it holds stays.
    """
    places = [Path(os.path.realpath(out)) for out in outs]
    temporary = tuple(place.with_name(f".{place.name}.tmp") for place in places)
    with naming(*places), locking.writing(outs[0]):
        try:
            for path, place in zip(temporary, places, strict=True):
                _clear_up(path, place)
            unpublished.update(temporary)
            yield temporary
            require_parent()
            for path, place in zip(temporary, places, strict=True):
                _take_place(path, place, own)
        finally:
            for path in temporary:
                remove(path)
            unpublished.difference_update(temporary)


def _clear_up(temporary: Path, place: Path) -> None:
    """After one that was killed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    remove(temporary)
    if _earlier(place).exists() and not place.exists():
        _earlier(place).rename(place)
    remove(_earlier(place))


def _take_place(new: Path, place: Path, own: Sequence[str]) -> None:
    if not new.is_dir():
        new.replace(place)
        return
    before = list(place.iterdir()) if place.is_dir() else []
    ours = [path for path in before if any(fnmatch(path.name, pattern) for pattern in (*own, LEFT))]
    if len(ours) < len(before):
        for path in ours:
            remove(path)
        for path in new.iterdir():
            path.rename(place / path.name)
    else:
        if before or place.exists():
            place.rename(_earlier(place))
        new.rename(place)
        remove(_earlier(place))


def _earlier(place: Path) -> Path:
    return place.with_name(f".{place.name}.old.tmp")
