import numpy as np
import pytest

from worldmodel.evaluation import scoring
from worldmodel.evaluation.scoring import Predictors
from worldmodel.model.baselines import fit_linear
from worldmodel.model.calibration import NORMAL_90


@pytest.fixture(scope="module")
def predictors(variant):
    packed = variant.read_packed().packed
    rows = [packed.rows(episode) for episode in packed.where("train")]
    ridge = fit_linear([packed.features[row] for row in rows], [packed.actions[row] for row in rows])
    return Predictors(variant.client(), variant.scaler, ridge)


def test_scores_are_those_of_a_plain_loop_over_windows(variant, predictors):
    held_out, scaler, model = variant.held_out(), variant.scaler, predictors.model
    found = scoring.score(predictors, held_out)
    assert found.episode.tolist() == held_out.episode.tolist()
    for number in range(len(held_out)):
        batch = held_out.take(np.array([number]))
        history, past, plan, *_ = (part[0] for part in scoring.raw_inputs(batch, scaler))
        real, last = batch.features[0], batch.history[0, -1]
        if model.action_count:
            future = model.predict(model.encode(history, past), plan)
        else:
            future = model.predict(model.encode(history))
        predicted = scaler.features.transform(future.features)
        std = future.std / scaler.features.scale
        inside = np.abs(real - predicted) <= NORMAL_90 * std
        expected = {
            "model": np.square(predicted - real).mean(-1),
            "persistence": np.square(last - real).mean(-1),
            "linear": np.square(predictors.linear_model.rollout(last[None], batch.planned_actions)[0] - real).mean(-1),
            "log_likelihood": (-0.5 * np.square((predicted - real) / std) - np.log(std * np.sqrt(2 * np.pi))).mean(-1),
            "covered": inside.mean(-1),
            "weight": batch.weight[0],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(found, name)[number], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_raw_inputs_are_what_was_logged(project):
    held_out, packed, scaler = project.held_out(), project.read_packed().packed, project.scaler
    history, past, plan, *_ = scoring.raw_inputs(held_out.take(np.array([0])), scaler)
    begin = held_out.first[0]
    np.testing.assert_allclose(history[0], scaler.features.inverse(packed.features[begin : begin + 3]))
    np.testing.assert_allclose(past[0], scaler.actions.inverse(packed.actions[begin : begin + 2]))
    np.testing.assert_allclose(plan[0], scaler.actions.inverse(packed.actions[begin + 2 : begin + 6]))


def test_the_size_of_chunks_does_not_matter(variant, predictors, monkeypatch):
    whole = scoring.score(predictors, variant.held_out())
    monkeypatch.setattr(scoring, "CHUNK", 5)
    chunked = scoring.score(predictors, variant.held_out())
    np.testing.assert_allclose(chunked.model, whole.model, rtol=1e-3, atol=1e-6)
    assert chunked.weight.shape == whole.weight.shape == (len(variant.held_out()), variant.settings.horizon)


@pytest.mark.parametrize("length", [1, 3])
def test_a_shorter_horizon_is_the_beginning_of_the_whole(variant, predictors, length):
    inputs = scoring.raw_inputs(variant.held_out().take(np.arange(4)), variant.scaler)
    whole = scoring.predict_raw(predictors.model, inputs)
    cut = inputs._replace(planned_actions=inputs.planned_actions[:, :length])
    short = scoring.predict_raw(predictors.model, cut)
    assert short.features.shape == short.std.shape == (4, length, 2)
    np.testing.assert_allclose(short.features, whole.features[:, :length], rtol=1e-5, atol=1e-5)
    assert (short.reward is None) == (whole.reward is None)
    if short.reward is not None:
        assert short.reward.shape == (4, length)
