from dataclasses import replace

import numpy as np
import torch

from factories import make_episodes, make_packed
from pendulums import CPU, SHAPE, cut, pendulums, setup, trained
from worldmodel.arrays.windows import windows
from worldmodel.model.calibration import NORMAL_90, calibrate
from worldmodel.model.initialization import new_model
from worldmodel.model.selection import mean_error, predictions


def ratios(model, held_out):
    """|error| / std and whether the frame exists, [W, K, F] and [W, K]."""
    (batch, prediction), *none = predictions(model, held_out, CPU)
    assert not none
    return ((batch.features - prediction.features).abs() / prediction.log_std.exp()).numpy(), batch.weight.numpy() > 0


def test_calibrated_intervals_hold_nine_tenths_at_every_frame_of_the_horizon():
    model, observed, held_out = setup(noise=0.05)
    trained(model, observed, 20)
    calibrate(model, held_out, CPU)
    ratio, exists = ratios(model, held_out)
    assert exists.all()
    inside = (ratio <= NORMAL_90).mean(axis=(0, 2))
    np.testing.assert_allclose(inside, 0.9, atol=0.01)


def test_calibration_does_not_look_at_frames_that_do_not_exist():
    model, observed, _ = setup(noise=0.05, train=6)
    trained(model, observed, 20)
    packed = make_packed([replace(e, **cut(e, 4)) for e in pendulums(40, 3, 0.05)])
    short = windows(packed, np.arange(40), 2, 4)
    calibrate(model, short, CPU)
    ratio, exists = ratios(model, short)
    assert exists.tolist() == [[True, True, False, False]] * 40
    np.testing.assert_allclose((ratio[:, :2] <= NORMAL_90).mean(axis=(0, 2)), 0.9, atol=0.03)
    assert model.log_std_offset[2:].tolist() == [0, 0]


def test_calibration_leaves_the_mean_alone():
    model, _, held_out = setup(train=2)
    before = mean_error(model, held_out, CPU)
    calibrate(model, held_out, CPU)
    assert mean_error(model, held_out, CPU) == before


def test_errors_of_zero_keep_the_std_finite():
    episodes = [replace(e, features=np.ones((9, 2), np.float32)) for e in make_episodes(2, 9, actions=1, rewards=False)]
    packed = make_packed(episodes)
    model = new_model(SHAPE, packed, np.arange(2), 0, CPU)
    calibrate(model, windows(packed, np.arange(2), 2, 4), CPU)
    assert torch.isfinite(model.log_std_offset).all()
