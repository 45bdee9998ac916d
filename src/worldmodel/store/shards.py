"""Many episodes in a few LMDB files, which a remote stores and lists faster than one file an episode.

Observed episodes and dreams have shards of their own, filled in the order of the logs: new episodes change the last
shard alone. The same episodes give the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lmdb

from worldmodel.core.atomic import replacing
from worldmodel.core.integrity import require_file, require_sha256

SUFFIX = ".lmdb"
SHARD_BYTES = 64 << 20  # a shard ends with the episode that reaches it
PAGE, SPARE = 4096, 1 << 20  # bytes: of LMDB's pages; of its map, for what describes them
REMEDY = "run dvc repro prepare"

Item = tuple[str, bytes]  # key, value


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


def parted(sizes: Iterable[int]) -> Iterator[int]:
    """How many items each shard has, whose sizes in bytes these are."""
    count = total = 0
    for size in sizes:
        count, total = count + 1, total + size
        if total >= SHARD_BYTES:
            yield count
            count = total = 0
    if count:
        yield count


def shard_name(kind: str, number: int) -> str:
    return f"{kind}-{number:05}{SUFFIX}"


def write_shard(path: Path, items: Sequence[Item]) -> None:
    _latest.close()
    try:
        with replacing(path) as temporary:
            new = lmdb.open(str(temporary), subdir=False, lock=False, map_size=_room(items), sync=False)
            with new as shard, shard.begin(write=True) as writing:
                for key, content in items:
                    writing.put(key.encode(), content)
    except lmdb.Error as error:
        size = sum(len(content) for _, content in items)
        raise ValueError(
            f"{path}: {size / 1e6:.1f} MB could not be written ({error}); make room on that disk, or let the process "
            "have more memory (ulimit -v)"
        ) from None


def _room(items: Iterable[Item]) -> int:
    """Bytes of address space that hold the items, however their pages are filled."""
    return SPARE + sum(4 * PAGE + 2 * len(content) for _, content in items) // PAGE * PAGE


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
