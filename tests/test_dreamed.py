"""Dreams beside the logged frames that they began with."""

import numpy as np

from factories import make_episodes, make_packed, make_scaler, space_of
from test_realism import HISTORY, dream_of, logged
from worldmodel.arrays.packing import PackedData
from worldmodel.report.dreamed import compare


def data_of(episodes) -> PackedData:
    return PackedData(make_packed(episodes), space_of(episodes), {}, "")


def test_a_dream_that_repeats_the_log_is_at_no_distance_from_it():
    train = logged(4)
    comparison = compare(data_of([*train, dream_of(train[2], 5, "dream-0")]), HISTORY)
    assert [(pair.name, pair.agent_id, pair.begin, pair.distance) for pair in comparison.pairs] == [
        ("dream-0", train[2].agent_id, 5, 0.0)
    ]
    np.testing.assert_array_equal(comparison.pairs[0].real, comparison.pairs[0].dream)


def test_the_nearest_the_middle_and_the_farthest_are_chosen():
    train = logged(4)
    moved = [dream_of(train[0], 3, f"dream-{n}", train[0].features[3:] + 0.1 * n) for n in (4, 1, 0, 3, 2)]
    comparison = compare(data_of([*train, *moved]), HISTORY)
    assert [pair.name for pair in comparison.pairs] == ["dream-0", "dream-2", "dream-4"]


def test_the_most_variable_feature_comes_first_and_in_raw_units():
    train = logged(4)
    comparison = compare(data_of([*train, dream_of(train[1], 0, "dream-0")]), HISTORY)
    scaler = make_scaler([*train, dream_of(train[1], 0, "dream-0")])
    (number, real, _), *_ = comparison.pairs[0].most_variable(scaler, 2)
    assert number == int(np.argmax(comparison.pairs[0].real.std(axis=0)))
    np.testing.assert_allclose(real, train[1].features[: len(real), number], atol=1e-5)


def test_a_dream_of_unknown_origin_is_counted_and_not_paired():
    train = logged(4)
    comparison = compare(data_of([*train, dream_of(train[1], 0, "dream-0", start="unknown")]), HISTORY)
    assert comparison.pairs == ()
    assert (comparison.dreamed_change > 0).all()


def test_without_dreams_there_is_nothing_to_compare():
    assert compare(data_of(make_episodes(4)), HISTORY) is None
