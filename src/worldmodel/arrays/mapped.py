"""Arrays that are memory-mapped files. Freeing their pages keeps resident memory small, however large the files are."""

from collections.abc import Iterable
from mmap import MADV_DONTNEED, mmap
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def mapped(stream: BinaryIO, scalar: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The content of a file, which may be closed or deleted afterwards."""
    stream.flush()
    array: NDArray[Any] = np.memmap(stream, scalar, "r", shape=shape)
    return array


def release(arrays: Iterable[NDArray[Any] | None]) -> None:
    """Free the pages of the arrays that are mapped files."""
    for array in arrays:
        if array is not None and isinstance(array.base, mmap):
            array.base.madvise(MADV_DONTNEED)
