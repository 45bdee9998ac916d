"""Dreams beside the logged frames that they began with."""

import numpy as np

from factories import make_episodes, make_packed, make_scaler
from test_realism import HISTORY, dream_of, logged
from worldmodel.report import dreamed


def compare(episodes):
    return dreamed.compare(make_packed(episodes), make_scaler(episodes).features, HISTORY)


def test_a_dream_that_repeats_the_log_is_at_no_distance_from_it():
    train = logged(4)
    comparison = compare([*train, dream_of(train[2], 5, "dream-0")])
    assert [(pair.name, pair.agent_id, pair.begin, pair.distance) for pair in comparison.pairs] == [
        ("dream-0", train[2].agent_id, 5, 0.0)
    ]
    np.testing.assert_array_equal(comparison.pairs[0].real, comparison.pairs[0].dream)


def test_the_nearest_the_middle_and_the_farthest_are_chosen():
    train = logged(4)
    moved = [dream_of(train[0], 3, f"dream-{n}", train[0].features[3:] + 0.1 * n) for n in (4, 1, 0, 3, 2)]
    comparison = compare([*train, *moved])
    assert [pair.name for pair in comparison.pairs] == ["dream-0", "dream-2", "dream-4"]


def test_the_most_variable_feature_comes_first_and_in_raw_units():
    train = logged(4)
    comparison = compare([*train, dream_of(train[1], 0, "dream-0")])
    scaler = make_scaler([*train, dream_of(train[1], 0, "dream-0")])
    (number, real, _), *_ = comparison.pairs[0].most_variable(scaler.features, 2)
    assert number == int(np.argmax(comparison.pairs[0].real.std(axis=0)))
    np.testing.assert_allclose(real, train[1].features[: len(real), number], atol=1e-5)


def test_a_dream_of_unknown_origin_is_counted_and_not_paired():
    train = logged(4)
    comparison = compare([*train, dream_of(train[1], 0, "dream-0", start="unknown")])
    assert comparison.pairs == ()
    assert (comparison.dreamed_change > 0).all()


def test_without_dreams_there_is_nothing_to_compare():
    assert compare(make_episodes(4)) is None
