"""What a bundle says of endings and of its own errors, beside what came."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_metrics import scores
from worldmodel.evaluation import metrics, reliability
from worldmodel.evaluation.reliability import rank_correlation

HALVES = st.lists(st.sampled_from([0.0, 0.05, 0.5, 0.55, 1.0]), min_size=8, max_size=8)
CAME = st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=8, max_size=8)


def with_endings(probability, ended):
    told = {"termination": np.float32(probability), "ended": np.float32(ended)}
    return replace(scores(np.ones_like(told["ended"])), told=told)


@given(HALVES, CAME)
def test_endings_are_judged_as_a_plain_loop_over_the_frames_that_exist_does(probability, ended):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reliability, "BLOCK", 3)
        found = reliability.endings(with_endings(np.reshape(probability, (4, 2)), np.reshape(ended, (4, 2))))
    pairs = [(float(np.float32(p)), e) for p, e in zip(probability, ended, strict=True) if not np.isnan(e)]
    ends, others = ([p for p, e in pairs if e == which] for which in (1, 0))
    if not ends or not others:
        assert found is None
        return
    wins = [(one > other) + 0.5 * (one == other) for one in ends for other in others]
    assert found.auc == pytest.approx(np.mean(wins))
    assert found.brier == pytest.approx(np.mean([(p - e) ** 2 for p, e in pairs]))
    assert found.share == pytest.approx(len(ends) / len(pairs))
    assert sum(count for *_, count in found.bins) == len(pairs)
    for said, came, count in found.bins:
        own = [(p, e) for p, e in pairs if min(int(p * 10), 9) == min(int(said * 10), 9)]
        assert (said, came, count) == (*(pytest.approx(each) for each in np.mean(own, axis=0)), len(own))
    assert [said for said, *_ in found.bins] == sorted(said for said, *_ in found.bins)


def test_a_bundle_that_tells_nothing_is_not_judged():
    assert reliability.endings(scores([[1.0]])) is reliability.disagreement(scores([[1.0]])) is None


def test_disagreement_is_ranked_against_the_error_window_by_window():
    error = np.array([[1, 3], [8, 99], [5, 5], [0, 0], [7, 11]], float)
    weight = [[1, 1], [1, 0], [1, 1], [0, 0], [1, 1]]
    told = np.float32([[0.1, 0.3], [0.7, 9], [0.4, 0.4], [50, 50], [0.5, 0.7]])
    found = reliability.disagreement(replace(scores(error, weight=weight), told={"disagreement": told}))
    assert found.rank_correlation == pytest.approx(0.8)
    expected = [(0.2, 2, 1), (0.4, 5, 1), (0.6, 9, 1), (0.7, 8, 1)]
    assert [tuple(map(pytest.approx, each)) for each in expected] == found.bins
    (few,) = reliability.disagreement(replace(scores([[2.0]]), told={"disagreement": told[:1, :1]})).bins
    assert few == (pytest.approx(0.1), 2, 1)


def test_windows_are_put_into_bins_of_as_many_each():
    said = np.random.default_rng(0).permutation(1000).astype(np.float32)[:, None]
    found = reliability.disagreement(replace(scores(1000.0 - said), told={"disagreement": said}))
    assert found.rank_correlation == pytest.approx(-1)
    assert found.bins == [(25 + 50 * n - 0.5, 975.5 - 50 * n, 50) for n in range(20)]


def test_a_rank_correlation_is_that_of_mean_ranks():
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([10.0, 1000, 100, 1e9])) == pytest.approx(0.8)
    one, other = np.array([1.0, 1, 2, 5]), np.array([3.0, 4, 4, 4])
    by_hand = np.corrcoef([1.5, 1.5, 3, 4], [1, 3, 3, 3])[0, 1]
    assert rank_correlation(one, other) == pytest.approx(by_hand)
    for same in ([7.0, 7, 7, 7], [0.0] * 4):
        assert rank_correlation(one, np.array(same)) == 0
    assert rank_correlation(np.array([3.0]), np.array([1.0])) == 0


def test_a_windows_mean_is_over_the_frames_that_have_readings(monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 2)
    found = scores([[1.0, 3.0], [4.0, 9.0], [5.0, 5.0]], weight=[[1, 0.5], [1, 0], [0, 0]])
    np.testing.assert_allclose(found.by_window(found["model"]), [2.5 / 1.5, 4, np.nan])
