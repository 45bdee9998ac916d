import numpy as np
import pytest

from factories import make_episodes, make_labels, make_packed, make_scaler
from test_scaler import table
from test_validate import flat
from worldmodel.arrays.packing import pack
from worldmodel.arrays.scaler import fit
from worldmodel.arrays.windows import windows
from worldmodel.client import Future
from worldmodel.core.student_t import half_width, log_density
from worldmodel.episodes.columns import Column, Columns
from worldmodel.evaluation import metrics, scoring
from worldmodel.evaluation.scoring import Predictors
from worldmodel.model.baselines import FLOORS, fit_linear

ONE = np.array([0])


@pytest.fixture(scope="module")
def predictors(variant):
    return Predictors.fitted(variant.client(), variant.scaler, variant.read_packed().packed)


def test_scores_are_those_of_a_plain_loop_over_windows(variant, predictors):
    held_out, scaler, model = variant.held_out(), variant.scaler, predictors.model
    found = scoring.score(predictors, held_out)
    assert found.episode.tolist() == held_out.episode.tolist()
    for number in range(len(held_out)):
        batch = held_out.take(np.array([number]))
        history, past, plan, *_ = (part[0] for part in scoring.raw_inputs(batch, scaler))
        real = batch.features[0]
        if model.action_count:
            future = model.predict(model.encode(history, past), plan)
        else:
            future = model.predict(model.encode(history))
        predicted = scaler.features.transform(future.features)
        std = future.std / scaler.features.scale
        inside = np.abs(real - predicted) <= half_width(model.degrees_of_freedom) * std
        expected = {
            "model": np.square(predicted - real).mean(-1),
            "log_likelihood": log_density(predicted - real, std, model.degrees_of_freedom).mean(-1),
            "covered": inside.mean(-1),
            "beyond": (np.abs(real - predicted) > 10 * std).mean(-1),
        }
        for name, by_hand in floors_by_hand(variant, batch).items():
            expected[name] = np.square(by_hand - real).mean(-1)
        assert found.weight[number].tolist() == batch.weight[0].tolist()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][number], values, rtol=1e-3, atol=1e-4, err_msg=name)


def floors_by_hand(variant, batch):
    """What each of FLOORS predicts of a batch of one window, [K, F]."""
    packed = variant.read_packed().packed
    rows = [packed.rows(episode) for episode in packed.where("train")]
    ridge = fit_linear([packed.features[row] for row in rows], [packed.actions[row] for row in rows])
    before, last = batch.history[0, -2:]
    return {
        "linear": ridge.rollout(last[None], batch.planned_actions)[0],
        "persistence": last,
        "mean": np.concatenate([packed.features[row] for row in rows]).mean(axis=0),
        "last_change": np.stack([last + k * (last - before) for k in range(1, variant.settings.horizon + 1)]),
    }


def test_a_floor_is_as_likely_as_a_normal_as_wide_as_its_errors_on_train_windows(variant, predictors):
    packed, held_out = variant.read_packed().packed, variant.held_out()
    train = windows(packed, packed.where("train"), held_out.history, held_out.horizon)
    found = scoring.score(predictors, held_out)
    missed = {name: [[], []] for name in FLOORS}
    for part, these in enumerate((train, held_out)):
        for number in range(len(these)):
            batch = these.take(np.array([number]))
            for name, by_hand in floors_by_hand(variant, batch).items():
                missed[name][part].append(by_hand - batch.features[0])
    for name, (seen, unseen) in missed.items():
        wide = np.maximum(np.sqrt(np.square(seen).mean(axis=0)), 1e-3)
        nats = log_density(np.array(unseen), wide, np.inf)
        np.testing.assert_allclose(found[f"log_likelihood.{name}"], nats.mean(-1), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.features[f"log_likelihood.{name}"], nats.mean((0, 1)), rtol=1e-3, atol=1e-3)


def test_frames_that_no_train_window_reaches_have_the_spread_of_those_before(project):
    rows = [np.random.default_rng(n).normal(size=(length, 2)).astype(np.float32) for n, length in enumerate((6, 6))]
    rows[0][:, 1] = rows[1][:, 1] = np.nan
    scaler = fit([table(each) for each in rows], "standard", 1e-8, False)
    packed = pack([table(each) for each in rows], scaler)
    predictors = Predictors.fitted(project.client(), scaler, packed)
    for spread in predictors.spreads(windows(packed, np.arange(2), 3, 9)).values():
        assert (spread[3:, 0] == spread[2, 0]).all()
        assert len(set(spread[:3, 0])) == 3
        assert (spread[:, 1] == 1).all()


def test_an_angle_goes_on_turning_through_north_and_a_category_stays(project):
    turning = np.stack([np.arange(340, 380, 5) % 360, [0, 1] * 4, np.arange(8) * 2.0], axis=1).astype(np.float32)
    columns = Columns((Column("track", "degrees", "angle"), Column("gear", "", "category"), Column("x")))
    scaler = fit([table(turning)], "standard", 1e-8, False, columns)
    packed = pack([table(turning)], scaler)
    floors, batch = Predictors.fitted(project.client(), scaler, packed), windows(packed, np.array([0]), 3, 4).take(ONE)
    again = floors.floor("last_change", batch)[0]
    np.testing.assert_allclose(again[:, [0, 2]] % 360, turning[3:7, [0, 2]], atol=1e-3)
    assert again[:, 1].tolist() == [0] * 4
    assert set(floors.floor("mean", batch)[0, :, 1].tolist()) <= {0, 1}


def test_frames_beyond_the_range_of_the_train_frames_by_a_twentieth_of_it_are_counted(project):
    train, test = np.zeros((5, 2), np.float32), np.zeros((4, 2), np.float32)
    train[:, 0], test[:, 0], test[:, 1] = range(5), [-0.1, 4.19, 4.3, np.nan], [0, 0, 1, 0]
    scaler = fit([table(train)], "standard", 1e-8, False)
    packed = pack([table(train), table(test)], scaler, make_labels(make_episodes(2), ["train", "test"]))
    share, by_feature = scoring.outside(Predictors.fitted(project.client(), scaler, packed), packed)
    assert (share, by_feature.tolist()) == (1 / 4, [1 / 3, 1 / 4])


def test_raw_inputs_are_what_was_logged(project):
    held_out, packed, scaler = project.held_out(), project.read_packed().packed, project.scaler
    history, past, plan, *_ = scoring.raw_inputs(held_out.take(ONE), scaler)
    begin = held_out.first[0]
    np.testing.assert_allclose(history[0], scaler.features.inverse(packed.features[begin : begin + 3]))
    np.testing.assert_allclose(past[0], scaler.actions.inverse(packed.actions[begin : begin + 2]))
    np.testing.assert_allclose(plan[0], scaler.actions.inverse(packed.actions[begin + 2 : begin + 6]))


def test_the_size_of_chunks_does_not_matter(variant, predictors, monkeypatch):
    whole = scoring.score(predictors, variant.held_out())
    monkeypatch.setattr(scoring, "CHUNK", 5)
    chunked = scoring.score(predictors, variant.held_out())
    np.testing.assert_allclose(chunked["model"], whole["model"], rtol=1e-3, atol=1e-6)
    assert chunked.weight.shape == whole.weight.shape == (len(variant.held_out()), variant.settings.horizon)


class Still:
    """A bundle that predicts the last frame, 0.3 raw units off."""

    degrees_of_freedom = 4.0

    def encode(self, features, **_):
        return features[:, -1] + np.float32(0.3)

    def predict(self, z, actions):
        features = np.repeat(z[:, None], actions.shape[1], axis=1)
        return Future(features, np.full_like(features, 0.5), None)


def test_metrics_are_the_same_whatever_the_method_that_scaled_the_arrays():
    episodes = make_episodes(8, 30, noise=0.3)
    found = {}
    for method in ("standard", "minmax"):
        scaler = make_scaler(episodes[:5], method=method)
        packed = make_packed(episodes, ["train"] * 5 + ["test"] * 3, scaler)
        predictors = Predictors.fitted(Still(), scaler, packed)
        scores = scoring.score(predictors, windows(packed, packed.where("test"), 3, 6))
        share, by_feature = scoring.outside(predictors, packed)
        features = metrics.features(scores, ["one", "other"], by_feature)
        quality = metrics.quality(scores, metrics.agents(metrics.episodes(scores, packed.labels)), features)
        found[method] = dict(flat(quality | {"outside": share, "features": {f.name: vars(f) for f in features}}))
    assert found["standard"].keys() == found["minmax"].keys()
    for name, value in found["standard"].items():
        assert found["minmax"][name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4)), name


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
