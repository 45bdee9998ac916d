"""Many episodes in a few LMDB files, which a remote stores and lists faster than one file an episode.

Observed episodes and dreams have shards of their own, filled in the order of the logs: new episodes change the last
shard alone. The same episodes give the same bytes.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import lmdb

from worldmodel.core.atomic import replacing
from worldmodel.core.integrity import require_file, require_sha256

SUFFIX = ".lmdb"
SHARD_BYTES = 64 << 20  # a shard ends with the episode that reaches it
PAGE, SPARE = 4096, 1 << 20  # bytes: of LMDB's pages; of its map, for what describes them
REMEDY = "run dvc repro prepare"

Item = tuple[str, str, bytes]  # kind of shard, key, value


class _Latest:
    """The shard that was read last, still open: opening takes a while, and LMDB allows it only once in a process."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.state: tuple[int, int, int] | None = None
        self.shard: lmdb.Environment | None = None
        self.whole = dict[Path, tuple[int, int, int]]()  # shards that had their hash, as they were then

    def opened(self, path: Path, digest: str) -> lmdb.Environment:
        """LMDB maps a file and trusts it: what is cut would end the process, so the hash comes first."""
        require_file(path, REMEDY)
        status = path.stat()
        state = status.st_ino, status.st_mtime_ns, status.st_size
        if self.whole.get(path) != state:
            require_sha256(path, digest, REMEDY)
            self.whole[path] = state
        if self.shard is None or (self.path, self.state) != (path, state):
            self.close()
            self.shard = lmdb.open(str(path), subdir=False, lock=False, readonly=True, create=False)
            self.path, self.state = path, state
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
    items, size = [first], len(first[2])
    while size < SHARD_BYTES and (item := next(rest, None)) is not None:
        items.append(item)
        size += len(item[2])
    try:
        with replacing(path) as temporary:
            new = lmdb.open(str(temporary), subdir=False, lock=False, map_size=_room(items), sync=False)
            with new as shard, shard.begin(write=True) as writing:
                for _, key, content in items:
                    writing.put(key.encode(), content)
    except lmdb.Error as error:
        raise ValueError(
            f"{path}: {size / 1e6:.1f} MB could not be written ({error}); make room on that disk, or let the process "
            "have more memory (ulimit -v)"
        ) from None
    return [key for _, key, _ in items]


def _room(items: Iterable[Item]) -> int:
    """Bytes of address space that hold the items, however their pages are filled."""
    return SPARE + sum(4 * PAGE + 2 * len(content) for _, _, content in items) // PAGE * PAGE


def read_shard(path: Path, key: str, digest: str) -> bytes:
    """Raises ValueError where the file is not the shard with this sha256, or does not hold the key."""
    try:
        with _latest.opened(path, digest).begin() as reading:
            content = reading.get(key.encode())
    except lmdb.Error as error:
        raise ValueError(f"{path}: not a readable shard ({error}); {REMEDY}") from None
    if content is None:
        raise ValueError(f"{path}: holds no {key}; {REMEDY}")
    return bytes(content)
