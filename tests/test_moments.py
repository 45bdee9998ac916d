import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.arrays.moments import moments


def of(array, cuts):
    return moments(lambda: np.split(array, sorted(cuts)))


def expected(array):
    wide = array.astype(np.float64)
    return wide.min(axis=0), wide.max(axis=0), wide.mean(axis=0), wide.std(axis=0)


@given(st.integers(1, 3000), st.integers(1, 5), st.lists(st.integers(0, 3000), max_size=9), st.integers(0, 99))
def test_blocks_give_what_all_rows_give_at_once(rows, columns, cuts, seed):
    rng = np.random.default_rng(seed)
    array = (rng.normal(1e3, 1, (rows, columns)) * 10.0 ** rng.integers(-3, 3, columns)).astype(np.float32)
    found = of(array, [min(cut, rows) for cut in cuts])
    for one, other in zip((found.low, found.high, found.mean, found.std), expected(array), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-9)


def test_nan_counts_as_no_number_and_a_column_of_nan_has_zeros():
    array = np.random.default_rng(0).normal(5, 2, (900, 3))
    array[array > 8] = np.nan
    array[:, 2] = np.nan
    found = of(array, [0, 1, 100, 101, 700])
    np.testing.assert_allclose(found.mean[:2], np.nanmean(array[:, :2], axis=0))
    np.testing.assert_allclose(found.std[:2], np.nanstd(array[:, :2], axis=0))
    np.testing.assert_array_equal(found.high[:2], np.nanmax(array[:, :2], axis=0))
    assert (found.low[2], found.high[2], found.mean[2], found.std[2]) == (0, 0, 0, 0)


def test_no_rows_have_no_moments():
    assert moments(lambda: []) is None
    assert moments(lambda: [np.empty((0, 3), np.float32)] * 2) is None
