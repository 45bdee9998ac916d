import numpy as np
import pytest

from worldmodel.dreams.starts import golden_ratio_sequence


@pytest.mark.parametrize("count", [1, 2, 7, 100, 26585, 30000, 65536])
@pytest.mark.parametrize("number", [10, 256, 3000, 70000])
def test_each_stretch_has_its_share_of_any_number_of_draws(count, number):
    drawn = np.sort(golden_ratio_sequence((1, 2), count, 0, number))
    stretches = np.linspace(0, count, 12).astype(int)
    found = np.diff(np.searchsorted(drawn, stretches))
    assert np.abs(found - number * np.diff(stretches) / count).max() < 4  # at random: some sqrt(number / 11)
    assert drawn[0] >= 0
    assert drawn[-1] < count


def test_draws_do_not_depend_on_how_they_are_asked_for():
    whole = golden_ratio_sequence((3, 4), 1000, 0, 600)
    assert np.array_equal(
        whole, np.concatenate([golden_ratio_sequence((3, 4), 1000, n, n + 200) for n in (0, 200, 400)])
    )


def test_the_seed_draws_the_first_one():
    assert len({int(golden_ratio_sequence((seed, 0), 1000, 0, 1)[0]) for seed in range(5)}) == 5
