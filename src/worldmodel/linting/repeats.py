"""Frames that stand in the logs twice: a hash of each goes to a file, and only hashes are compared."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.linting.batch import Batch, Placed

AT_ONCE = 1 << 20  # hashes in memory, about
BLOCK = 1 << 20  # hashes that are read at once
MULTIPLIERS = np.random.default_rng(0).integers(1, 2**63, 1 << 10, dtype=np.uint64) | np.uint64(1)


@dataclass
class Repeats:
    stream: Any  # of a file without a name
    placed: list[Placed] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        agents = [zlib.crc32(each.agent_id.encode()) for each in batch.placed]
        hashes = np.repeat(np.array(agents, np.uint64), np.diff(batch.bounds))
        with np.errstate(over="ignore"):
            for number, column in enumerate((batch.timestamps, *batch.features)):
                bits = column.view(np.uint64)
                hashes += (bits ^ (bits >> np.uint64(29))) * (
                    MULTIPLIERS[number % len(MULTIPLIERS)] + np.uint64(2 * number)
                )
        hashes.tofile(self.stream)
        self.placed += batch.placed

    def found(self) -> tuple[int, Placed | None]:
        """How many frames there are again, and the episode of the first."""
        asked = np.zeros(len(self.placed), bool)
        asked[list(_sharing_time(self.placed))] = True
        lengths = np.array([each.length for each in self.placed], np.int64)
        frames, count, first = np.repeat(asked, lengths), 0, len(self.placed)
        if not asked.any():
            return 0, None
        self.stream.flush()
        parts = -(-int(frames.sum()) // AT_ONCE)
        for part in range(parts):
            numbers, own = _part(self.stream, frames, part, parts)
            order = np.argsort(own, kind="stable")
            again = numbers[order[1:][own[order[1:]] == own[order[:-1]]]]
            if len(again):
                count += len(again)
                first = min(first, int(np.searchsorted(np.cumsum(lengths), again.min(), "right")))
        return count, self.placed[first] if count else None


def _part(stream: Any, frames: NDArray[np.bool_], part: int, parts: int) -> tuple[Ints, NDArray[np.uint64]]:
    """Numbers and hashes of those frames whose hash is of that part."""
    numbers, found = list[Ints](), list[NDArray[np.uint64]]()
    stream.seek(0)
    for begin in range(0, len(frames), BLOCK):
        block = np.fromfile(stream, np.uint64, BLOCK)
        chosen = np.flatnonzero(frames[begin : begin + BLOCK] & (block % np.uint64(parts) == part))
        numbers.append(chosen + begin)
        found.append(block[chosen])
    return np.concatenate(numbers), np.concatenate(found)


def _sharing_time(placed: Sequence[Placed]) -> Iterator[int]:
    """Episodes of one agent that share time with another one."""
    before, end = -1, -np.inf
    for index in sorted(range(len(placed)), key=lambda index: (placed[index].agent_id, placed[index].begin)):
        if before >= 0 and placed[before].agent_id == placed[index].agent_id and placed[index].begin <= end:
            yield from (before, index)
            end = max(end, placed[index].end)
        else:
            before, end = index, placed[index].end
