"""Arrays as the Open Inference Protocol writes them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
_SCALARS = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_SCALARS |= {f"{'U' * (kind == 'u')}INT{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
DATATYPES = {name: np.dtype(scalar) for name, scalar in _SCALARS.items()}
_NAMES = {scalar: name for name, scalar in DATATYPES.items()}
MOST_AXES = 4
MOST_NUMBERS = 100_000  # that are no bytes: Python makes an object of each, and serves nobody else meanwhile


class Refused(ValueError):
    """A request that is not answered, with the HTTP status that says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Spec(NamedTuple):
    """A tensor as a model declares it; -1: any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def datatype_of(array: Array) -> str:
    return _NAMES[array.dtype]


def from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """Little-endian values, row-major. Raises Refused where type, shape and bytes do not fit."""
    scalar, count = _kind(name, datatype, shape)
    if len(data) != count * scalar.itemsize:
        raise Refused(f"{name} has {len(data)} bytes, expected {count * scalar.itemsize} for {datatype} {list(shape)}")
    return np.frombuffer(data, scalar).reshape(shape)


def from_values(name: str, datatype: str, shape: Sequence[int], values: ArrayLike) -> Array:
    """Numbers, nested or not; None is a reading that is missing. Raises Refused as `from_raw` does."""
    scalar, count = _kind(name, datatype, shape)
    try:
        found = np.asarray(values)
        if found.dtype == object:
            found = np.asarray([np.nan if each is None else each for each in found.flat])
    except (ValueError, TypeError, OverflowError):
        raise Refused(f"{name} is no array of numbers, expected {datatype} {list(shape)}") from None
    if found.dtype.kind not in "biuf":
        raise Refused(f"{name} holds what is no number, expected {datatype} {list(shape)}")
    if found.size > MOST_NUMBERS:
        raise Refused(f"{name} has more than {MOST_NUMBERS} numbers; send bytes, or fewer rows at once", 413)
    if found.size != count:
        raise Refused(f"{name} has {found.size} values, expected {count} for {datatype} {list(shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        array = found.astype(scalar).reshape(shape)
    if scalar.kind in "iub" and not np.array_equal(array.reshape(found.shape), found):
        raise Refused(f"{name} holds numbers that {datatype} cannot hold")
    return array


def to_values(name: str, array: Array) -> list[Any]:
    """Row-major. Raises Refused where there are too many."""
    if array.size > MOST_NUMBERS:
        raise Refused(f"{name} has more than {MOST_NUMBERS} numbers; ask for bytes, or fewer rows at once", 413)
    found: list[Any] = array.ravel().tolist()
    return found


def _kind(name: str, datatype: str, shape: Sequence[int]) -> tuple[np.dtype[Any], int]:
    if datatype not in DATATYPES:
        raise Refused(f"{name} has datatype {datatype[:20]!r}, expected one of {', '.join(DATATYPES)}")
    if len(shape) > MOST_AXES or min(shape, default=0) < 0:
        raise Refused(f"{name} has shape {str(list(shape))[:80]}, expected at most {MOST_AXES} sizes of 0 or more")
    return DATATYPES[datatype], math.prod(shape)
