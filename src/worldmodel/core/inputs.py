"""Arrays that a user gives to a model: as numbers, with a batch axis, of the right shape, and nothing missing."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = {"c": "complex numbers", "U": "text", "S": "bytes", "M": "times", "m": "spans of time", "V": "records"}


def batched(values: ArrayLike, dimensions: int, name: str, scalar: Any = np.float32) -> tuple[NDArray[Any], bool]:
    """With a batch axis, and whether it had to be added.

    Raises ValueError for what is no real number, and for numbers that are too large for such scalars.
    """
    array = numbers(values, name)
    if array.dtype != scalar:
        try:
            with np.errstate(over="raise"):
                array = array.astype(scalar)
        except FloatingPointError:
            largest, most = np.nanmax(np.abs(array)), np.finfo(scalar).max
            raise ValueError(f"{name} holds {largest:g}, expected at most {most:g} ({np.dtype(scalar)})") from None
    if array.ndim not in (dimensions - 1, dimensions):
        raise ValueError(f"{name} has {array.ndim} axes, expected {dimensions}, or {dimensions - 1} for a single one")
    return (array, False) if array.ndim == dimensions else (array[None], True)


def numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    """Of any type that holds real numbers; true is 1. Raises ValueError for others."""
    try:
        array = np.asarray(unmasked(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        odd = next((each for each in array.flat if not isinstance(each, int | float)), None)
        found = KINDS.get(array.dtype.kind, f"objects ({type(odd).__name__})")
        raise ValueError(f"{name} holds {found}, expected real numbers (NaN where a reading is missing)")
    return array


def unmasked(values: Any) -> Any:
    """With NaN for what is masked, or None in a list: below a mask there may be any number."""
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data) if np.ma.is_masked(values) else values.data
    if isinstance(values, list | tuple | deque):
        return [np.nan if each is None else unmasked(each) for each in values]
    return values


def require(
    name: str,
    array: NDArray[Any],
    shape: tuple[int, ...],
    batch: int | None = None,
    may_miss: bool = False,
    columns: Sequence[str] = (),
) -> None:
    """Raises ValueError for another shape, for infinity, and for NaN unless numbers may be missing."""
    if array.shape[1:] != shape or (batch is not None and len(array) != batch):
        expected = ", ".join(["batch" if batch is None else str(batch), *map(str, shape)])
        raise ValueError(f"{name} has shape {list(array.shape)}, expected [{expected}] (or one without the batch)")
    if np.isfinite(array).all():
        return
    wrong = np.argwhere(np.isinf(array) if may_miss else ~np.isfinite(array))
    if len(wrong):
        *row, number = wrong[0].tolist()
        called = f" ({columns[number]})" if columns and columns[number] else ""
        frame = f"frame {row[1]} " if len(row) > 1 else ""
        within = f"of row {row[0]} " if len(array) > 1 else ""
        raise ValueError(
            f"{name} holds {'' if may_miss else 'NaN or '}infinity, {len(wrong)} of {array.size} numbers, the first as "
            f"number {number}{called} of {frame}{within}".rstrip()
            + ", expected finite numbers in raw units"
        )
