import math
import tracemalloc
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_windows import telling
from worldmodel.arrays import mixing
from worldmodel.arrays.mixing import Mixture, RhoSchedule, mean_share, permutation
from worldmodel.arrays.windows import windows

OBSERVED, DREAMED = 11, 5  # windows


def sources(observed=True, dreamed=True):
    """Windows of an observed episode 0 and a dreamed episode 1; their first feature says which window it is."""
    packed = telling([OBSERVED + 1, DREAMED + 1])
    given = (np.arange(0, 1 if observed else 0), np.arange(1, 2 if dreamed else 1))
    return [windows(packed, episodes, 1, 1) for episodes in given]


def mixture(rho, batch_size=8, seed=0, confidence=False, **given):
    rho = rho if isinstance(rho, RhoSchedule) else np.asarray(rho, float)
    return Mixture(*sources(**given), batch_size, rho, seed, confidence)


def drawn(batch):
    """The numbers of the observed and of the dreamed windows in a batch."""
    place = batch.history[:, 0, 0].astype(int)
    return place[place < 100].tolist(), (place[place >= 100] - 100).tolist()


@given(st.integers(0, 1000), st.integers(1, 64), st.integers(1, 60))
def test_a_constant_rho_is_met_exactly_with_the_fraction_carried_over(thousandths, batch_size, steps):
    mix = mixture(np.full(steps, thousandths / 1000), batch_size)
    for t in range(steps + 1):
        assert mix.dreams_by(t) == math.floor(Fraction(thousandths, 1000) * batch_size * t)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 64))
def test_any_schedule_is_met_to_less_than_one_dream_at_every_step(rho, batch_size):
    mix = mixture(rho, batch_size)
    for t in range(len(rho) + 1):
        assert -1e-5 < math.fsum(rho[:t]) * batch_size - mix.dreams_by(t) < 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(1, 20))
def test_a_batch_is_full_and_holds_its_quota(rho, batch_size):
    mix = mixture(rho, batch_size)
    for t in range(len(rho)):
        observed, dreamed = drawn(mix.batch(t))
        assert len(dreamed) == mix.dreams_by(t + 1) - mix.dreams_by(t)
        assert len(observed) == batch_size - len(dreamed)


def test_each_source_is_drawn_without_replacement_round_after_round():
    steps = 55  # 8 * 55 * 0.5 = 20 rounds of observed windows and 44 of dreams
    mix = mixture(np.full(steps, 0.5))
    batches = [drawn(mix.batch(t)) for t in range(steps)]
    for source, count in ((0, OBSERVED), (1, DREAMED)):
        order = [number for batch in batches for number in batch[source]]
        rounds = [order[begin : begin + count] for begin in range(0, len(order), count)]
        assert all(sorted(turn) == list(range(count)) for turn in rounds)
        assert len({tuple(turn) for turn in rounds}) > 1


def test_a_batch_larger_than_a_source_goes_through_it_again():
    observed, dreamed = drawn(mixture([0.5], batch_size=48).batch(0))
    assert set(Counter(observed).values()) == {2, 3}
    assert set(Counter(dreamed).values()) == {4, 5}


def test_batch_t_depends_on_seed_and_t_alone():
    rho = np.linspace(0, 1, 20)
    forward, backward = mixture(rho), mixture(rho)
    expected = {t: drawn(forward.batch(t)) for t in range(20)}
    assert {t: drawn(backward.batch(t)) for t in reversed(range(20))} == expected
    assert drawn(mixture(rho).batch(13)) == expected[13]


def test_another_seed_gives_another_order():
    orders = [[drawn(mixture(np.full(4, 0.5), seed=seed).batch(t)) for t in range(4)] for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_observed_and_dreamed_windows_have_orders_of_their_own():
    packed = telling([8, 8])
    one, two = (windows(packed, np.array([episode]), 1, 1) for episode in (0, 1))
    observed, dreamed = drawn(Mixture(one, two, 14, np.array([0.5]), 0, confidence=False).batch(0))
    assert sorted(observed) == sorted(dreamed)
    assert observed != dreamed


def test_confidence_weighs_dreams_and_never_observed_frames():
    plain, weighed = (mixture([0.5], confidence=confidence).batch(0) for confidence in (False, True))
    dreamed = plain.history[:, 0, 0] >= 100
    assert (plain.weight == 1).all()
    assert (weighed.weight[~dreamed] == 1).all()
    assert ((weighed.weight[dreamed] > 0) & (weighed.weight[dreamed] < 1)).any()


def cold_starts(batch):
    """How many frames of padding each history has, and which windows begin where their episode does, [B] each."""
    history = batch.history[:, :, 0]
    return (np.diff(history, axis=1) == 0).sum(axis=1), history[:, 0] % 100 == 0


@given(st.integers(1, 40), st.integers(0, 1000), st.integers(0, 1000))
def test_an_exact_share_of_all_windows_is_cold_and_every_other_one_begins_an_episode(batch_size, rho, cold):
    packed = replace(telling([60, 30]), still=np.float32([-7]))
    observed, dreams = (windows(packed, np.array([episode]), 4, 2) for episode in (0, 1))
    mix = Mixture(observed, dreams, batch_size, np.full(20, rho / 1000), 3, False, cold / 1000)
    padding, opening = np.empty(0), np.empty(0)
    for t in range(20):
        batch = mix.batch(t)
        padded, opens = cold_starts(batch)
        padding, opening = np.r_[padding, padded], np.r_[opening, opens & (padded > 0)]
        assert (padding > 0).sum() == Fraction(cold, 1000) * batch_size * (t + 1) // 1
        still = np.arange(3) < padded[:, None]
        np.testing.assert_array_equal(batch.past_actions[..., 0], np.where(still, -7, batch.history[:, :-1, 0] + 0.25))
        np.testing.assert_array_equal(batch.features[:, 0], batch.history[:, -1] + 1)
        assert (batch.history[:, 0, 0] >= 100).sum() == mix.dreams_by(t + 1) - mix.dreams_by(t)
    assert opening.sum() >= (padding > 0).sum() // 2
    if (padding > 0).sum() > 100:
        assert set(padding[padding > 0]) == {1, 2, 3}
        assert (padding == 3).sum() >= (padding > 0).sum() // 2 - 1  # a single frame is known
        assert opening.sum() < 0.7 * (padding > 0).sum()


def test_which_windows_are_cold_depends_on_seed_and_t_alone():
    packed = telling([300])
    observed, none = (windows(packed, np.arange(count), 8, 2) for count in (1, 0))
    one, again, other = (Mixture(observed, none, 64, np.zeros(9), seed, False) for seed in (0, 0, 1))
    first = cold_starts(one.batch(5))[0]
    assert cold_starts(again.batch(5))[0].tolist() == first.tolist()
    assert (first > 0).sum() == 4
    assert cold_starts(again.batch(4))[0].tolist() != first.tolist()
    assert cold_starts(other.batch(5))[0].tolist() != first.tolist()


def test_constant_ignores_the_start():
    assert RhoSchedule("constant", 0.1, 0.7, 4)[:].tolist() == [0.7] * 4


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.8), (0.9, 0.1)])
def test_a_schedule_goes_one_way_from_start_to_end(kind, start, end):
    rho = RhoSchedule(kind, start, end, 101)[:]
    assert rho[[0, -1]] == pytest.approx([start, end])
    assert rho[50] == pytest.approx((start + end) / 2)
    assert (np.diff(rho) * np.sign(end - start) >= 0).all()


def test_cosine_is_slow_at_both_ends_and_linear_is_even():
    linear, cosine = (np.diff(RhoSchedule(kind, 0, 1, 101)[:]) for kind in ("linear", "cosine"))
    np.testing.assert_allclose(linear, 0.01)
    assert cosine[0] < 0.001 > cosine[-1]
    assert cosine[50] > 0.015


def test_one_step_is_a_schedule_too():
    assert RhoSchedule("linear", 0.2, 0.8, 1)[:].tolist() == [0.2]


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_a_schedule_read_block_by_block_draws_what_one_array_of_all_steps_would(monkeypatch, kind):
    monkeypatch.setattr(mixing, "BLOCK", 64)
    rho, steps = RhoSchedule(kind, 0.9, 0.3, 1000), range(1001)
    whole = np.concatenate([[0.0], np.cumsum(rho[:] * 7)])
    expected = np.floor(whole + 1e-6).astype(int).tolist()
    assert [mixture(rho, 7).dreams_by(t) for t in steps] == expected
    assert [mix.dreams_by(t) for mix in [mixture(rho, 7)] for t in reversed(steps)] == expected[::-1]
    assert np.concatenate([rho[begin : begin + 37] for begin in range(0, 1000, 37)]).tolist() == rho[:].tolist()
    assert (rho.min(), rho.max()) == (rho[:].min(), rho[:].max())
    assert mean_share(rho, 10, 40) == rho[10:40].mean()
    assert mean_share(rho, 10, 900) == pytest.approx(rho[10:900].mean(), rel=1e-14)


def test_a_thousand_million_steps_ask_for_no_number_a_step():
    tracemalloc.start()
    mix = mixture(RhoSchedule("linear", 0.0, 1.0, 10**9))
    assert mix.dreams_by(3_000_000) == 35999  # the sum of 8 t / 10^9
    assert mix.rho.max() == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20


def test_dreams_asked_for_and_not_there_are_an_error():
    with pytest.raises(ValueError, match=r"train\.rho asks for up to 0\.3 dreams .* set dreams\.episodes above 0"):
        mixture([0.0, 0.3], dreamed=False)


def test_no_dream_is_needed_without_rho():
    assert drawn(mixture([0.0], dreamed=False).batch(0))[1] == []


def test_observed_windows_asked_for_and_not_there_are_an_error():
    with pytest.raises(ValueError, match=r"no observed train episode has more than train\.history = 1 frames"):
        mixture([1.0, 0.9], observed=False)


def test_no_observed_window_is_needed_where_all_is_dreamed():
    assert drawn(mixture([1.0], observed=False).batch(0))[0] == []


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 70_000])
def test_a_permutation_is_numpys_in_half_of_its_room(count):
    found = permutation(np.random.default_rng(3), count)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.random.default_rng(3).permutation(count))
