import numpy as np
import pytest

from research.missing import holes


@pytest.mark.parametrize(("share", "burst"), [(0.05, 5), (0.5, 10), (0.2, 1.25)])
def test_so_many_readings_are_missing_and_so_many_in_a_row(share, burst):
    missing = holes(4000, 20, share, burst, np.random.default_rng(0))
    begins = (missing[1:] & ~missing[:-1]).sum()
    assert missing.mean() == pytest.approx(share, rel=0.1)
    assert missing.sum() / begins == pytest.approx(burst, rel=0.1)
