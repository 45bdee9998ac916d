"""Many episodes in a few LMDB files, which a remote stores and lists faster than one file an episode.

Observed episodes and dreams have shards of their own, filled in the order of the logs: new episodes change the last
shard alone. The same episodes give the same bytes.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import lmdb

from worldmodel.core.atomic import replacing

SUFFIX = ".lmdb"
SHARD_BYTES = 64 << 20  # a shard ends with the episode that reaches it
MOST_BYTES = 1 << 40  # of address space, not of disk

Item = tuple[str, str, bytes]  # kind of shard, key, value


class _Latest:
    """The shard that was read last, still open: opening takes a while, and LMDB allows it only once in a process."""

    def __init__(self) -> None:
        self.state: tuple[str, int, int] | None = None
        self.shard: lmdb.Environment | None = None

    def opened(self, path: Path) -> lmdb.Environment:
        status = path.stat()
        state = (str(path), status.st_ino, status.st_mtime_ns)
        if self.shard is None or self.state != state:
            self.close()
            self.shard, self.state = lmdb.open(str(path), subdir=False, lock=False, readonly=True, create=False), state
        return self.shard

    def close(self) -> None:
        if self.shard is not None:
            self.shard.close()
        self.shard = None


_latest = _Latest()


def write_shards(folder: Path, items: Iterable[Item]) -> Iterator[tuple[str, str]]:
    """Key and shard's file name of each item; items of one kind must be neighbours."""
    _latest.close()
    for kind, of_kind in groupby(items, key=lambda item: item[0]):
        yield from _write_kind(folder, kind, of_kind)


def _write_kind(folder: Path, kind: str, items: Iterator[Item]) -> Iterator[tuple[str, str]]:
    number = 0
    while (first := next(items, None)) is not None:
        name = f"{kind}-{number:05}{SUFFIX}"
        for key in _write_shard(folder / name, first, items):
            yield key, name
        number += 1


def _write_shard(path: Path, first: Item, rest: Iterator[Item]) -> list[str]:
    with replacing(path) as temporary:
        new = lmdb.open(str(temporary), subdir=False, lock=False, map_size=MOST_BYTES, sync=False)
        with new as shard, shard.begin(write=True) as writing:
            keys, size = [first[1]], len(first[2])
            writing.put(first[1].encode(), first[2])
            while size < SHARD_BYTES and (item := next(rest, None)) is not None:
                writing.put(item[1].encode(), item[2])
                keys.append(item[1])
                size += len(item[2])
    return keys


def read_shard(path: Path, key: str) -> bytes:
    """Raises ValueError where the file is no shard, or does not hold the key."""
    try:
        with _latest.opened(path).begin() as reading:
            content = reading.get(key.encode())
    except lmdb.Error as error:
        raise ValueError(f"{path}: not a readable shard ({error}); run dvc repro prepare") from None
    if content is None:
        raise ValueError(f"{path}: holds no {key}; run dvc repro prepare")
    return bytes(content)
