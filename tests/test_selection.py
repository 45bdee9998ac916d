import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from pendulums import CPU, SHAPE, cut, pendulums, setup, trained
from worldmodel.arrays.windows import windows
from worldmodel.model import selection
from worldmodel.model.initialization import new_model
from worldmodel.model.selection import DAMPINGS, BestWeights, choose_damping, mean_error, predictions, subsample


def test_the_error_is_a_mean_over_the_frames_that_exist():
    model, _, _ = setup(train=4)
    packed = make_packed([replace(e, **cut(e, 4 + n)) for n, e in enumerate(pendulums(3, 2))])
    short = windows(packed, np.arange(3), 2, 4)
    errors = []
    for batch, prediction in predictions(model, short, CPU):
        squared = (batch.features - prediction.features).square().mean(-1)
        errors += [float(squared[b, k]) for b, k in zip(*np.nonzero(batch.weight.numpy()), strict=True)]
    assert len(errors) == 2 + 3 + 4
    assert mean_error(model, short, CPU) == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_size_of_evaluation_batches_does_not_matter(monkeypatch):
    model, _, held_out = setup(train=4)
    whole = mean_error(model, held_out, CPU)
    monkeypatch.setattr(selection, "EVALUATION_BATCH", 7)
    assert mean_error(model, held_out, CPU) == pytest.approx(whole, rel=1e-6)


def test_selection_takes_the_better_and_of_equals_the_later():
    one, two, same, broken = (BestWeights(step, error, {}) for step, error in enumerate([2.0, 1.0, 1.0, float("nan")]))
    assert one.or_better(two) is two
    assert two.or_better(one) is two
    assert two.or_better(same) is same
    assert two.or_better(broken) is two


def test_selected_weights_do_not_change_with_the_model():
    model, observed, held_out = setup(train=2)
    best = BestWeights.at(model, held_out, 0, CPU)
    before = {name: tensor.clone() for name, tensor in best.weights.items()}
    trained(model, observed, 2)
    assert all(torch.equal(before[name], best.weights[name]) for name in before)


def test_without_held_out_windows_the_latest_weights_are_kept():
    model, _, held_out = setup(train=2)
    nothing = windows(held_out.packed, np.empty(0, np.int64), 2, 4)
    first, second = (BestWeights.at(model, nothing, step, CPU) for step in (0, 1))
    assert first.error == math.inf
    assert first.or_better(second) is second


@pytest.mark.parametrize("begun", DAMPINGS)
def test_a_trained_model_gets_the_damping_that_does_best_on_held_out_windows(begun):
    near, far = make_episodes(4, 12, actions=1, rewards=False), make_episodes(4, 12, actions=1, rewards=False, seed=1)
    packed = make_packed(near + [replace(e, features=10 * e.features, actions=10 * e.actions) for e in far])  # linear
    model, held_out = new_model(SHAPE, packed, np.arange(4), 0, CPU), windows(packed, np.arange(4, 8), 2, 4)
    model.damping.fill_(begun)
    missed = choose_damping(model, held_out, CPU)
    assert not model.damping.any()
    assert missed == mean_error(model, held_out, CPU)


def test_without_held_out_windows_the_damping_stays():
    model, _, held_out = setup(train=2)
    model.damping.fill_(0.3)
    nothing = windows(held_out.packed, np.empty(0, np.int64), 2, 4)
    assert choose_damping(model, nothing, CPU) == math.inf
    assert model.damping.tolist() == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(("count", "kept"), [(5, 5), (1024, 1024), (2047, 2047), (2048, 1024), (10240, 1024)])
def test_a_subsample_is_evenly_spaced(count, kept):
    _, observed, _ = setup(train=2)
    many = replace(observed, index=np.arange(count))
    thin = subsample(many)
    assert len(thin) == kept
    assert len(set(np.diff(thin.first))) == 1
