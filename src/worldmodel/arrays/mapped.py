"""Arrays that are mapped files: their pages are let go of once they were read, and come back when they are read again.

Resident memory then has the room of what is worked on, however large the files are.
"""

from collections.abc import Iterable
from mmap import MADV_DONTNEED, mmap
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def mapped(stream: BinaryIO, scalar: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """What was written to a file, whole; it may be closed, and have no name."""
    stream.flush()
    array: NDArray[Any] = np.memmap(stream, scalar, "r", shape=shape)
    return array


def release(arrays: Iterable[NDArray[Any] | None]) -> None:
    """Let go of the pages of those that are mapped files."""
    for array in arrays:
        if array is not None and isinstance(array.base, mmap):
            array.base.madvise(MADV_DONTNEED)
