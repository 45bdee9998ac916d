import math

import numpy as np
import pytest

from worldmodel.core.student_t import half_width, log_density

# 95 % quantiles of t, as in any table
QUANTILES = {3: 2.353363, 4: 2.131847, 5: 2.015048, 6: 1.943180, 8: 1.859548, 10: 1.812461, 15: 1.753050, 30: 1.697261}


def test_its_intervals_are_those_of_the_tables():
    for degrees, quantile in QUANTILES.items():
        assert half_width(degrees) == pytest.approx(quantile * math.sqrt((degrees - 2) / degrees), abs=1e-5)
    assert half_width(math.inf) == pytest.approx(1.644854, abs=1e-6)
    assert half_width(math.inf, 0.5) == pytest.approx(0.674490, abs=1e-6)
    assert half_width(1e6) == pytest.approx(half_width(math.inf), abs=1e-5)


@pytest.mark.parametrize("degrees", [4, 5, 10, math.inf])
def test_its_density_is_one_of_the_standard_deviation_that_is_asked_for(degrees):
    values, step = np.linspace(-3000, 3000, 3_000_001, retstep=True)
    density = np.exp(log_density(values, np.array(2.0), degrees)) * step
    assert density.sum() == pytest.approx(1, abs=1e-6)
    assert math.sqrt((density * np.square(values)).sum()) == pytest.approx(2, rel=2e-3)


def test_its_intervals_and_its_density_are_of_one_distribution():
    for degrees in (2.5, 3.0, 8.0):
        width = half_width(degrees, 0.8)
        values, step = np.linspace(-width, width, 200_001, retstep=True)
        assert np.exp(log_density(values, np.array(1.0), degrees)).sum() * step == pytest.approx(0.8, abs=1e-4)
