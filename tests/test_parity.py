import numpy as np
import pytest
import torch

from worldmodel.arrays.affine import Affine
from worldmodel.client import Future
from worldmodel.evaluation.parity import _apart, _rounded_up, largest_difference


class Wrong:
    """The bundle, but for what `change` does to some of its futures."""

    def __init__(self, model, change, where=lambda frames: frames != "step"):
        self.model, self.change, self.where = model, change, where

    @property
    def horizon(self):
        return self.model.horizon

    def encode(self, features, **inputs):
        return self.model.encode(features, **inputs)

    def predict(self, z, **inputs):
        found = self.model.predict(z, **inputs)
        return self.changed(found, found.features.shape[1])

    def step(self, z, **inputs):
        z, found = self.model.step(z, **inputs)
        return z, self.changed(found, "step")

    def changed(self, future, frames):
        copy = Future(*(part if part is None else np.array(part) for part in future))
        if self.where(frames):
            self.change(copy)
        return copy


def difference(project, client=None):
    trained = project.read_trained().model
    return largest_difference(client or project.client(), trained, project.scaler, project.held_out())


def test_a_bundle_equals_its_model(variant):
    assert 0 <= difference(variant) < 1e-5


def changing(part, index, by):
    def change(future):
        getattr(future, part)[index] += by

    return change


def test_one_wrong_number_is_found_in_standardized_units(project):
    scaler = project.scaler
    units = {"features": 0.3 * scaler.features.scale[1], "std": 0.3 * scaler.features.scale[1]}
    units |= {"reward": 0.3 * scaler.rewards.scale[0], "disagreement": 0.3}
    for part, by in units.items():
        client = Wrong(project.client(), changing(part, (-1, -1, 1) if part in ("features", "std") else (0, 0), by))
        assert difference(project, client) == pytest.approx(0.35, abs=0.06), part


@pytest.mark.parametrize("frames", [1, 7, 16, "step"])
def test_plans_of_every_length_and_steps_are_compared(project, frames):
    change = changing("features", 0, 3 * project.scaler.features.scale)
    assert difference(project, Wrong(project.client(), change, lambda found: found == frames)) > 1


@pytest.mark.parametrize("part", ["features", "std", "reward", "disagreement"])
def test_a_number_that_is_none_is_never_equal(project, part):
    assert np.isnan(difference(project, Wrong(project.client(), changing(part, (0, 0), np.nan))))


def apart(one, other, center=0.0, scale=1.0):
    return _apart(*(np.array([each], np.float32) for each in (one, other)), Affine(*np.float32([[center], [scale]])))


def test_an_answer_far_from_the_mean_is_compared_relative_to_its_size():
    assert apart(0.5, 0.25, scale=2.0) == pytest.approx(0.125)
    assert apart(2000.0, 1000.0, scale=2.0) == pytest.approx(1.0)
    assert apart(1001.0, 1000.0, center=999.0) == pytest.approx(1.0, abs=1e-3)


def test_raw_numbers_beside_each_other_in_float32_are_equal():
    assert apart(1e6, np.nextafter(np.float32(1e6), np.float32(0)), center=1e6) == 0
    assert apart(1e6, 1e6 + 0.25, center=1e6) > 0.1


def test_other_weights_are_found(project):
    trained = project.read_trained().model
    with torch.no_grad():
        trained.linear.bias += 0.01
    assert largest_difference(project.client(), trained, project.scaler, project.held_out()) > 1e-3


def test_no_held_out_window_is_needed(project):
    held_out = project.held_out()
    none = held_out.at(np.empty(0, np.int64))
    assert largest_difference(project.client(), project.read_trained().model, project.scaler, none) < 1e-5


@pytest.mark.parametrize(
    ("value", "found"),
    [(0.0, 0.0), (1.2e-7, 2e-7), (9.5e-7, 1e-6), (4.0, 4.0), (12.0, 20.0), (float("inf"), float("inf"))],
)
def test_a_difference_is_rounded_up_to_one_digit(value, found):
    assert _rounded_up(value) == found
