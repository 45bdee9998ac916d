import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.arrays import moments as module
from worldmodel.arrays.moments import moments


def of(array, cuts):
    return moments(lambda: np.split(array, sorted(cuts)))


def expected(array):
    wide = array.astype(np.float64)
    return wide.min(axis=0), wide.max(axis=0), wide.mean(axis=0), wide.std(axis=0)


def same(found, array):
    for one, other in zip((found.low, found.high, found.mean, found.std), expected(array), strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@given(st.integers(1, 3000), st.integers(1, 5), st.lists(st.integers(0, 3000), max_size=9), st.integers(0, 99))
def test_blocks_give_the_bits_of_all_rows_at_once(rows, columns, cuts, seed):
    rng = np.random.default_rng(seed)
    array = (rng.normal(1e3, 1, (rows, columns)) * 10.0 ** rng.integers(-3, 3, columns)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAF", 128)
        same(of(array, [min(cut, rows) for cut in cuts]), array)


@pytest.mark.parametrize("shape", [(300_001, 1), (100_000, 3), (1, 1), (1, 7), (9, 64)])
def test_many_rows_give_the_bits_of_all_at_once(shape):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    same(of(array, range(0, len(array), 997)), array)


def test_no_rows_have_no_moments():
    assert moments(lambda: []) is None
    assert moments(lambda: [np.empty((0, 3), np.float32)] * 2) is None
