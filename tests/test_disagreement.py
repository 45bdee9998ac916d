"""How far plans are from what the logs know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_packed
from pendulums import CPU, SHAPE, cut, pendulums, setup, trained
from worldmodel.arrays.windows import windows
from worldmodel.core.student_t import half_width
from worldmodel.model.calibration import calibrate_termination
from worldmodel.model.disagreement import WIDER, fit_disagreement
from worldmodel.model.initialization import new_model
from worldmodel.model.selection import predictions


@pytest.fixture(scope="module")
def fitted():
    model, observed, held_out = setup(noise=0.05)
    trained(model, observed, 40)
    fit_disagreement(model, observed, held_out, CPU)
    return model, observed, held_out


def shares_held(model, held_out):
    """Within the 90 % intervals of the std, and of std and disagreement together."""
    held = []
    for batch, prediction in predictions(model, held_out, CPU):
        off = (batch.features - prediction.features).square()
        variance, doubt = (2 * prediction.log_std).exp(), prediction.disagreement.square()[..., None]
        reach = half_width(model.degrees) ** 2
        held.append([(off <= reach * each).float().mean() for each in (variance, variance + doubt)])
    return np.mean(held, axis=0)


def test_it_widens_the_intervals_of_held_out_windows_by_hardly_anything(fitted):
    model, _, held_out = fitted
    alone, together = shares_held(model, held_out)
    assert 0 < together - alone <= WIDER + 1e-6


def test_it_grows_along_a_plan_and_with_the_distance_from_the_logs(fitted):
    model, observed, _ = fitted
    batch, _ = next(predictions(model, observed, CPU))
    z, plan = model.encode(*batch.past), batch.planned_actions
    found = [model.predict(z, scale * plan) for scale in (1, 3, 9)]
    doubts = [each.disagreement / each.log_std.exp().square().mean(-1).sqrt() for each in found]
    assert (doubts[0].diff(dim=1) > 0).all()
    means = [float(each.detach().mean()) for each in doubts]
    assert means[2] > 3 * means[1] > 9 * means[0] > 0


def test_without_held_out_windows_it_is_scaled_on_those_of_training():
    model, observed, held_out = setup(noise=0.05, train=6)
    fit_disagreement(model, observed, held_out.at(np.empty(0, np.int64)), CPU)
    alone, together = shares_held(model, observed)
    assert 0 < together - alone <= WIDER + 1e-6


@pytest.mark.filterwarnings("error")
def test_a_feature_that_never_changes_and_no_actions_are_no_trouble():
    episodes = [replace(e, features=np.c_[e.features[:, :1], np.ones(30, np.float32)]) for e in pendulums(3, 0)]
    episodes = [replace(e, actions=None) for e in episodes]
    packed, every = make_packed(episodes), np.arange(3)
    model = new_model(replace(SHAPE, actions=0), packed, every, 0, CPU)
    fit_disagreement(model, windows(packed, every, 2, 4), windows(packed, every[:0], 2, 4), CPU)
    assert model.unfamiliarity.isfinite().all()
    assert all(
        prediction.disagreement.isfinite().all()
        for _, prediction in predictions(model, windows(packed, every, 2, 4), CPU)
    )


def test_the_odds_of_an_ending_become_those_of_held_out_windows():
    ending = [replace(e, **cut(e, 12 + number % 5), terminal=True) for number, e in enumerate(pendulums(80, 0))]
    packed, every = make_packed(ending), np.arange(80)
    model = new_model(replace(SHAPE, terminals=True), packed, every[:40], 0, CPU)
    held_out = windows(packed, every[40:], 2, 4)
    found = [probabilities(model, held_out)]
    calibrate_termination(model, held_out, CPU)
    found.append(probabilities(model, held_out))
    real = np.mean([float(b.ended.sum() / (b.weight > 0).sum()) for b, _ in predictions(model, held_out, CPU)])
    assert found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx(real, rel=0.05)


def probabilities(model, held_out):
    """Mean over the frames that exist."""
    return np.mean(
        [float(torch.sigmoid(p.termination[b.weight > 0]).mean()) for b, p in predictions(model, held_out, CPU)]
    )
