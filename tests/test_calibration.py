import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from pendulums import CPU, SHAPE, cut, pendulums, setup, trained
from worldmodel.arrays.windows import windows
from worldmodel.core.student_t import half_width, log_density
from worldmodel.model.calibration import calibrate
from worldmodel.model.initialization import new_model
from worldmodel.model.selection import mean_error, predictions


def calibrated(noise=0.05, train=24, held_out=12, heavy=False):
    """A model and held-out windows, before and after it is told what they ask for."""
    model, observed, unseen = setup(noise, train, held_out)
    if heavy:
        rng = np.random.default_rng(5)
        unseen.packed.features[:] += 0.03 * rng.standard_t(2.5, unseen.packed.features.shape).astype(np.float32)
    start = copy.deepcopy(model.state_dict())
    trained(model, observed, 20)
    calibrate(model, start, unseen, CPU)
    return model, unseen


def ratios(model, held_out):
    """error / std and whether the frame exists, [W, K, F] and [W, K]."""
    parts = [((b.features - p.features) / p.log_std.exp(), b.weight > 0) for b, p in predictions(model, held_out, CPU)]
    ratio, exists = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return ratio, exists


def test_intervals_hold_nine_tenths_at_every_frame_and_of_every_feature():
    model, held_out = calibrated(held_out=60)
    ratio, exists = ratios(model, held_out)
    assert exists.all()
    inside = np.abs(ratio) <= half_width(model.degrees)
    for axes in ((0, 2), (0, 1)):
        np.testing.assert_allclose(inside.mean(axis=axes), 0.91, atol=0.02)


def test_intervals_of_few_episodes_are_wider_than_these_ask_for():
    unseen = setup(0.05, 24, 60)[2]
    shares = []
    for number in range(24, 34):
        model, observed, _ = setup(0.05, 24, 60)
        start = copy.deepcopy(model.state_dict())
        trained(model, observed, 20)
        calibrate(model, start, windows(unseen.packed, np.array([number]), 2, 4), CPU)
        ratio, _ = ratios(model, unseen)
        shares.append((np.abs(ratio) <= half_width(model.degrees)).mean())
    assert 0.87 < np.mean(shares) < 0.97
    assert min(shares) > 0.8


def test_heavy_tails_get_few_degrees_of_freedom_and_are_likelier_than_under_a_normal():
    model, held_out = calibrated(held_out=60, heavy=True)
    assert 2 < model.degrees <= 5
    ratio, _ = ratios(model, held_out)
    one = np.ones_like(ratio)
    assert log_density(ratio, one, model.degrees).mean() > log_density(ratio, one, math.inf).mean() + 0.02


def test_calibration_does_not_look_at_frames_that_do_not_exist():
    model, observed, _ = setup(noise=0.05, train=6)
    start = copy.deepcopy(model.state_dict())
    trained(model, observed, 20)
    packed = make_packed([replace(e, **cut(e, 4)) for e in pendulums(40, 3, 0.05)])
    short = windows(packed, np.arange(40), 2, 4)
    calibrate(model, start, short, CPU)
    ratio, exists = ratios(model, short)
    assert exists.tolist() == [[True, True, False, False]] * 40
    inside = (np.abs(ratio[:, :2]) <= half_width(model.degrees)).mean(axis=(0, 2))
    np.testing.assert_allclose(inside, 0.91, atol=0.05)
    assert torch.isfinite(model.log_std_offset).all()


def test_calibration_leaves_the_mean_alone_and_without_windows_all():
    model, _, held_out = setup(train=2)
    before, start = mean_error(model, held_out, CPU), copy.deepcopy(model.state_dict())
    calibrate(model, start, windows(held_out.packed, np.empty(0, np.int64), 2, 4), CPU)
    assert all(torch.equal(start[name], value) for name, value in model.state_dict().items())
    calibrate(model, start, held_out, CPU)
    assert mean_error(model, held_out, CPU) == before
    assert not torch.equal(model.log_std_offset, start["log_std_offset"])


@pytest.mark.filterwarnings("error")
def test_errors_of_zero_keep_the_std_finite():
    episodes = [replace(e, features=np.ones((9, 2), np.float32)) for e in make_episodes(2, 9, actions=1, rewards=False)]
    packed = make_packed(episodes)
    model = new_model(SHAPE, packed, np.arange(2), 0, CPU)
    start = copy.deepcopy(model.state_dict())
    calibrate(model, start, windows(packed, np.arange(2), 2, 4), CPU)
    assert torch.isfinite(model.log_std_offset).all()
