"""Angles, categories, float64, missing readings and context on their way to standardized columns and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import make_labels, make_packed, make_scaler, make_tables, space_of
from test_packing import some_episodes
from test_scaler import table
from worldmodel.arrays.packing import label_of, read_packed, write_packed
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.arrays.windows import held, windows
from worldmodel.episodes.columns import Column, Columns

HEADING = Column("heading", "degrees", "angle")
GEAR = Column("gear", "", "category")


def scaler_of(features, *columns, method="standard", **fields):
    return fit([table(np.asarray(features), **fields)], method, 1e-8, False, Columns(columns))


def mixed(frames=200, seed=0, low=0.0):
    rng = np.random.default_rng(seed)
    heading = low + (180 + np.cumsum(rng.normal(0, 20, frames))) % 360
    return np.stack([rng.normal(5, 2, frames), heading, rng.choice([1, 2, 7], frames)], axis=1).astype(np.float32)


@pytest.mark.parametrize("low", [0.0, -180.0])
@pytest.mark.parametrize("method", ["standard", "minmax"])
def test_values_angles_and_categories_come_back_in_the_range_of_the_logs(tmp_path, low, method):
    features = mixed(low=low)
    scaler = scaler_of(features, Column("height", "m"), HEADING, GEAR, method=method)
    wide = scaler.features.transform(features)
    assert wide.shape == (200, 1 + 2 + 3)
    assert wide.dtype == np.float32
    np.testing.assert_allclose(scaler.features.inverse(wide), features, atol=1e-3)
    (tmp_path / "normalizer.json").write_text(scaler.to_json())
    again = Scaler.read(tmp_path / "normalizer.json")
    assert again.to_json() == scaler.to_json()
    assert again.features.names == ("height", "heading", "gear")
    np.testing.assert_array_equal(again.features.transform(features), wide)


def test_a_turn_is_no_distance_and_a_category_is_right_or_wrong():
    scaler = scaler_of(mixed(), Column("height", "m"), HEADING, GEAR)
    one, other = np.array([[5, 359, 1], [5, 10, 7]]), np.array([[5, 1, 1], [5, 10, 2]])
    off = scaler.features.residual(one, other) * scaler.features.spread
    np.testing.assert_allclose(off, [[0, -2, 0], [0, 0, np.sqrt(2)]], atol=1e-5)
    near = scaler.features.transform(one[:1]) - scaler.features.transform(other[:1])
    assert np.abs(near[0, 1:3]).max() < 0.06


def test_what_one_column_cannot_hold_becomes_the_nearest_it_can():
    scaler = scaler_of(mixed(), Column("height", "m"), HEADING, GEAR)
    back = scaler.features.inverse(np.random.default_rng(0).normal(0, 3, (500, 6)))
    assert set(np.unique(back[:, 2])) <= {1, 2, 7}
    assert ((back[:, 1] >= 0) & (back[:, 1] < 360.0001)).all()


def test_a_category_that_train_never_saw_is_none_of_its_classes():
    scaler = scaler_of(mixed(), Column(), Column(), GEAR)
    unseen = scaler.features.transform(np.array([[5, 0, 3]], np.float32))
    assert (unseen[0, 2:] * scaler.features.scale[2:] + scaler.features.center[2:]).tolist() == pytest.approx([0, 0, 0])


def test_a_measurement_is_refused_as_a_category():
    with pytest.raises(ValueError, match=r"features 0 \(gear\) is a category of more than 256 values; call it a value"):
        scaler_of(np.random.default_rng(0).normal(size=(400, 1)), GEAR)


def test_an_angle_that_hardly_turns_is_measured_in_its_own_spread():
    heading = 90 + np.random.default_rng(0).normal(0, 0.5, (5000, 1))
    scaler = scaler_of(heading, HEADING)
    assert scaler.features.spread[0] == pytest.approx(0.5, rel=0.05)


@given(st.floats(1e5, 1e7), st.integers(0, 99))
def test_float64_columns_lose_nothing_that_moves(origin, seed):
    path = origin + np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (300, 2)), axis=0)
    wide, narrow = scaler_of(path).features, scaler_of(path.astype(np.float32)).features
    error = np.abs(wide.inverse(wide.transform(path)) - path).max()
    assert wide.inverse(wide.transform(path)).dtype == np.float64
    assert error < 1e-6
    assert np.abs(narrow.inverse(narrow.transform(path)) - path).max() > 2e-3 or origin < 1e6


def test_missing_readings_are_left_out_of_scales_and_stay_missing():
    features = mixed()
    holes = features.copy()
    holes[np.random.default_rng(1).random(holes.shape) < 0.2] = np.nan
    scaler = scaler_of(holes, Column(), HEADING, GEAR)
    known = ~np.isnan(holes[:, 0])
    assert scaler.features.center[0] == pytest.approx(features[known, 0].mean(), rel=1e-6)
    wide = scaler.features.transform(holes)
    np.testing.assert_array_equal(np.isnan(wide), np.isnan(holes)[:, [0, 1, 1, 2, 2, 2]])


def test_a_missing_reading_is_held_within_its_window_and_not_predicted():
    nan = np.nan
    values, known = held(np.array([[[nan, 1], [2, nan], [nan, nan], [4, 5]]], np.float32))
    assert values.tolist() == [[[0, 1], [2, 1], [2, 1], [4, 5]]]
    assert known.tolist() == [[[0, 1], [1, 0], [0, 0], [1, 1]]]
    episodes = some_episodes()
    episodes[0].features[2, 0] = nan
    packed = make_packed(episodes, scales=make_scaler(episodes))
    assert packed.missing
    batch = windows(packed, np.arange(1), 2, 3).take(np.arange(1))
    assert batch.present[0].tolist() == [[0, 1], [1, 1], [1, 1]]
    assert np.isfinite(batch.features).all()
    assert windows(make_packed(some_episodes()), np.arange(1), 2, 3).take(np.arange(1)).present is None


def test_context_is_packed_behind_actions_with_scales_of_its_own(tmp_path):
    episodes = some_episodes()
    clock = [np.arange(e.length, dtype=np.float32)[:, None] * 15 for e in episodes]
    tables = [each._replace(context=hours) for each, hours in zip(make_tables(episodes), clock, strict=True)]
    columns = Columns(context=(Column("hour", "degrees", "angle"),))
    scaler = fit(tables, "standard", 1e-8, False, columns)
    labels = [label_of(each, "train", each.length) for each in episodes]
    write_packed(tmp_path, tables, sum(each.length for each in episodes), labels, space_of(episodes), scaler, 0.5)
    data = read_packed(tmp_path)
    assert (data.context_count, data.packed.action_count, data.interval_s) == (2, 3, 0.5)
    np.testing.assert_array_equal(data.packed.actions[:5, :3], scaler.actions.transform(tables[0].actions))
    np.testing.assert_array_equal(data.packed.actions[:5, 3:], scaler.context.transform(clock[0]))
    assert data.packed.labels.terminals == make_labels(episodes).terminals == (False,) * 5
