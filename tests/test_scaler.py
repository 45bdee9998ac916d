import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from factories import make_episodes, make_scaler, make_tables
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.episodes.columns import Column, Columns
from worldmodel.episodes.table import Table

METHODS = ["standard", "minmax"]
numbers = st.floats(-1e4, 1e4, width=32)


def sample(*columns, actions=None, rewards=None):
    features = np.array(columns, np.float32).T
    moves = None if actions is None else np.asarray(actions, np.float32)
    return table(features, moves, None if rewards is None else np.asarray(rewards, np.float32))


def table(features, actions=None, rewards=None, context=None):
    return Table(np.arange(len(features), dtype=np.float64), features, actions, rewards, None, context)


@given(arrays(np.float32, st.tuples(st.integers(2, 20), st.integers(1, 4)), elements=numbers), st.sampled_from(METHODS))
def test_inverse_undoes_transform(features, method):
    affine = fit([table(features)], method, 1e-3, one_hot=False).features
    back = affine.inverse(affine.transform(features))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, features, rtol=1e-4, atol=1e-5 * (1 + np.abs(features).max()))


def test_standard_gives_mean_0_and_std_1_and_minmax_minus_1_to_1():
    episodes = make_episodes(5, 20)
    features = np.concatenate([each.features for each in episodes])
    standardized = make_scaler(episodes).features.transform(features)
    np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(standardized.std(axis=0), 1, rtol=1e-5)
    between = make_scaler(episodes, method="minmax").features.transform(features)
    np.testing.assert_allclose([between.min(axis=0), between.max(axis=0)], [[-1, -1], [1, 1]], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_feature_is_centered_and_keeps_its_unit(method):
    scaler = fit([sample([1e6, 1e6, 1e6], [0, 5, 1])], method, 1e-6, one_hot=False)
    assert (scaler.features.center[0], scaler.features.scale[0], scaler.change_std[0]) == (1e6, 1, 0)
    assert scaler.features.transform(np.array([[1e6 + 2, 0]], np.float32))[0, 0] == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0.1, 9.81, 1e6, 1e12, 1e30])
def test_a_feature_that_float32_only_rounds_counts_as_constant_and_one_that_moves_does_not(method, size):
    size = np.float32(size)
    rounded, moving = ([size, size + by * np.spacing(size), size] for by in (1, 50))
    scaler = fit([sample(rounded, moving)], method, 1e-8, one_hot=False)
    found = scaler.features.transform(np.array([rounded, moving], np.float32).T)
    assert np.ptp(found[:, 0]) <= 0.5
    assert np.ptp(found[:, 1]) >= 2 * (1 - 1e-6)


def test_small_features_are_scaled_and_a_smaller_one_is_told_as_constant():
    scaler = fit(
        [sample([0, 2e-6, 0, 2e-6], [0, 1e-9, 0, 1e-9], [5, 5, 5, 5], [0, 2, 0, 2])], "standard", 1e-8, one_hot=False
    )
    assert scaler.features.scale.tolist() == [np.float32(1e-6), 1, 1, 1]
    assert scaler.constant.tolist() == [False, True, True, False]


@pytest.mark.parametrize("method", METHODS)
def test_one_hot_actions_stay_as_they_are(method):
    episodes = make_episodes(3, 9, kind="discrete")
    actions = make_tables(episodes)[0].actions
    np.testing.assert_array_equal(make_scaler(episodes, method=method).actions.transform(actions), actions)


def test_continuous_actions_and_rewards_are_scaled_on_their_own():
    scaler = fit([sample([0, 1], actions=[[2], [6]], rewards=[10, 30])], "standard", 1e-6, one_hot=False)
    assert (scaler.actions.center[0], scaler.actions.scale[0]) == (4, 2)
    assert (scaler.rewards.center[0], scaler.rewards.scale[0]) == (20, 10)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_are_those_of_raw_columns_and_one_hot_actions_have_none(method, tmp_path):
    columns = Columns(
        features=(Column("heading", "degrees", "angle"), Column("mode", kind="category"), Column("x"), Column("off"))
    )
    heading, mode, x, off = [400, -30, 10], [7, 2, 2], [5e9 + 0.01, 5e9, np.nan], [np.nan] * 3
    tables = [
        table(np.array([heading, mode, x, off]).T, np.float32([[0.1], [-2], [3]]), context=np.float32([[1], [4], [2]]))
    ]
    path = tmp_path / "normalizer.json"
    for one_hot in (False, True):
        path.write_text(fit(tables, method, 1e-6, one_hot, columns).to_json())
        scaler = Scaler.read(path)
        np.testing.assert_array_equal(scaler.features.low, [-30, 2, 5e9, 0])
        np.testing.assert_array_equal(scaler.features.high, [400, 7, 5e9 + 0.01, 0])
        assert (scaler.context.low, scaler.context.high) == (1, 4)
        assert (scaler.actions.low, scaler.actions.high) == ((None, None) if one_hot else (-2, 3))


def test_without_actions_and_rewards_nothing_is_scaled():
    scaler = fit([sample([0, 1])], "standard", 1e-6, one_hot=False)
    assert scaler.actions.center.shape == (0,)
    assert scaler.actions.transform(np.empty((3, 2, 0), np.float32)).shape == (3, 2, 0)
    assert scaler.rewards is None


def test_the_spread_of_changes_does_not_cross_episodes():
    apart = [sample([0, 1, 2]), sample([1000, 1001, 1002])]
    assert fit(apart, "standard", 1e-6, one_hot=False).change_std[0] == pytest.approx(0, abs=1e-6)


def test_the_spread_of_changes_is_in_standardized_units():
    scaler = fit([sample([0, 1, 4])], "standard", 1e-6, one_hot=False)
    changes = np.array([1, 3]) / np.std([0, 1, 4])
    assert scaler.change_std[0] == pytest.approx(changes.std())


@pytest.mark.parametrize("kind", ["none", "discrete", "continuous"])
@pytest.mark.parametrize("rewards", [True, False])
def test_json_keeps_every_bit(tmp_path, kind, rewards):
    scaler = make_scaler(make_episodes(3, 9, kind=kind, rewards=rewards))
    path = tmp_path / "normalizer.json"
    path.write_text(scaler.to_json())
    found = Scaler.read(path)
    assert found.to_json() == scaler.to_json()
    np.testing.assert_array_equal(found.features.scale, scaler.features.scale)
    np.testing.assert_array_equal(found.actions.center, scaler.actions.center)
    np.testing.assert_array_equal(found.change_std, scaler.change_std)
    assert (found.rewards is None) == (not rewards)


@given(arrays(np.float32, (4, 2), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_json_keeps_every_bit_of_any_center(tmp_path_factory, features):
    scaler = fit([table(features)], "minmax", 1e-6, one_hot=False)
    path = tmp_path_factory.mktemp("scaler") / "normalizer.json"
    path.write_text(scaler.to_json())
    np.testing.assert_array_equal(Scaler.read(path).features.center, scaler.features.center)


def test_fitted_on_changes_with_the_data_and_nothing_else():
    samples = make_tables(make_episodes(3, 9))
    moved = [samples[0]._replace(features=samples[0].features + np.float32(1e-3)), *samples[1:]]
    one, same, other_method, other_data = (
        fit(*arguments, one_hot=False).fitted_on
        for arguments in (
            (samples, "standard", 1e-6),
            (samples, "standard", 1e-6),
            (samples, "minmax", 0.1),
            (moved, "standard", 1e-6),
        )
    )
    assert one == same == other_method != other_data


def test_scales_need_an_episode():
    with pytest.raises(ValueError, match="no observed train episode"):
        fit([], "standard", 1e-6, one_hot=False)


def put(*keys, value):
    """A change of one number or key of the file; None takes it out."""

    def spoil(body):
        *above, last = keys
        for key in above:
            body = body[key]
        body[last] = value
        if value is None:
            del body[last]

    return spoil


SPOILS = [
    *(
        put(key, value=value)
        for key in ("method", "features", "sha256", "fitted_on")
        for value in (None, 3, "some", [])
    ),
    *(put("features", "scale", 0, value=value) for value in (0, -1.0, math.nan, math.inf, 1e39, 1e-60, "1", 1.5)),
    *(put("actions", "center", 0, value=value) for value in (math.nan, 1e39, 10**400, True, 0.25)),
    put("rewards", value=None),
    put("change_std", value=[]),
    put("change_std", 0, value=math.nan),
    put("features", "more", value=[]),
    put("features", "center", value=[0.5]),
    put("features", "low", value=None),
    put("features", "high", value=[0.5]),
    put("features", "high", 0, value=math.inf),
    put("more", value=1),
    put("method", value="minmax"),
    put("sha256", value="0" * 64),
]
CONTENTS = [b"", b"[]", b"{}", b"\xff", b"[" * 10**5, b'{"a": ' * 10**5]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "normalizer.json"
    path.write_text(make_scaler(make_episodes(3, 9)).to_json())
    return path


@pytest.mark.parametrize("kind", range(len(SPOILS)))
def test_scales_that_are_not_as_they_were_written_are_refused(written, kind):
    body = json.loads(written.read_text())
    SPOILS[kind](body)
    written.write_text(json.dumps(body))
    with pytest.raises(ValueError, match=r"^\S*normalizer\.json: .{1,300}; run `dvc repro normalize`$"):
        Scaler.read(written)


@pytest.mark.parametrize("make", [None, Path.mkdir, os.mkfifo, *CONTENTS])
def test_what_is_no_file_of_scales_is_named(written, make):
    written.unlink()
    if isinstance(make, bytes):
        written.write_bytes(make)
    elif make:
        make(written)
    with pytest.raises(ValueError, match=r"^\S*normalizer\.json: .{1,300}; run `dvc repro normalize`$"):
        Scaler.read(written)
