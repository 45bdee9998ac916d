"""Logs of every kind of column at once, from dreams to the measured bundle: an angle, a category, a position too large
for float32, context, readings that are missing.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_normalize, make_train, space_of
from projects import Project, splits_of
from worldmodel.arrays.windows import windows
from worldmodel.core.tables import read_csv
from worldmodel.dreams import teacher
from worldmodel.dreams.dreamer import generate_dreams, pack_logs
from worldmodel.dreams.rarity import rarity
from worldmodel.dreams.realism import realism
from worldmodel.episodes.columns import Column, Columns
from worldmodel.evaluation import parity
from worldmodel.evaluation.scoring import Predictors, score

HISTORY, HORIZON, LENGTH = 3, 4, 24
HEADING, POSITION, MODE, LEVEL = range(4)
COLUMNS = Columns(
    features=(
        Column("heading", "degrees", "angle"),
        Column("position", "m"),
        Column("mode", kind="category"),
        Column(),
    ),
    actions=(Column("push"),),
    context=(Column("wind", "m/s"), Column("hour", "degrees", "angle")),
)


def flights(count=8, missing=0.1, **fields):
    return [
        replace(each, **flight(np.random.default_rng([7, number]), each.actions[:, 0], missing))
        for number, each in enumerate(make_episodes(count, LENGTH, features=4, actions=1, **fields))
    ]


def flight(rng, push, missing):
    """Turned by the wind; the mode follows from the heading."""
    wind = np.stack([rng.uniform(0, 2, LENGTH), 15.0 * np.arange(LENGTH) % 360], axis=1).astype(np.float32)
    heading = (rng.uniform(0, 360) + np.concatenate([[0], np.cumsum(20 + 10 * wind[:-1, 0])])) % 360
    position = 5e9 + np.cumsum(0.01 * np.cos(np.radians(heading)))
    level = np.convolve(push, 0.8 ** np.arange(LENGTH))[:LENGTH]
    features = np.stack([heading, position, heading // 180, level], axis=1)
    features[rng.random(features.shape) < missing] = np.nan
    return {"features": features, "context": wind}


def dream(train, **fields):
    settings = make_dreams(**{"episodes": 40, "length": HORIZON, "start_noise": 0.0} | fields)
    device = torch.device("cpu")
    return generate_dreams(train, space_of(train), settings, make_normalize(), HISTORY, device, None, COLUMNS)


def source_of(each, train):
    start = each.provenance["start"]
    (source,) = [e for e in train if (e.agent_id, e.name) == (start["agent_id"], start["episode"])]
    return source, start["frame"]


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_a_dream_is_in_the_units_of_the_log_and_misses_only_what_its_history_misses(gap, monkeypatch):
    monkeypatch.setattr(teacher, "_generalization_gap", lambda known, unseen: gap)
    train = flights()
    for each in dream(train):
        source, begin = source_of(each, train)
        past = source.features[begin : begin + HISTORY]
        np.testing.assert_array_equal(np.isnan(each.features[:HISTORY]), np.isnan(past))
        np.testing.assert_allclose(each.features[:HISTORY], past, rtol=0, atol=1e-3)
        future = each.features[HISTORY:]
        assert (future[:, HEADING] >= 0).all()
        assert (future[:, HEADING] < 360).all()
        assert set(future[:, MODE]) <= {0, 1}
        assert each.features.dtype == np.float64
        assert (np.abs(future[:, POSITION] - 5e9) < 10).all()


@pytest.mark.parametrize("frames", [LENGTH, HISTORY + 3])
def test_context_is_the_starts_own_wherever_the_actions_come_from(frames, monkeypatch):
    monkeypatch.setattr(teacher, "_generalization_gap", lambda known, unseen: 1.0)  # all actions are borrowed
    train = [cut(each, frames) for each in flights(missing=0)]
    borrowed = 0
    for each in dream(train, action_noise=1.0):
        source, begin = source_of(each, train)
        np.testing.assert_array_equal(each.context, source.context[begin : begin + each.length])
        borrowed += not np.allclose(each.actions[HISTORY:], source.actions[begin + HISTORY : begin + each.length])
    assert borrowed > 30


def cut(episode, length):
    names = ("timestamps", "features", "actions", "rewards", "context")
    return replace(episode, **{name: getattr(episode, name)[:length] for name in names})


def test_what_is_missing_betrays_no_dream_and_is_not_rare():
    train = flights(40, missing=0.3)
    settings = {"source": "repeat", "episodes": 200}
    filled = [
        replace(each, features=np.where(np.isnan(each.features), 0, each.features)) for each in dream(train, **settings)
    ]
    whole = [
        replace(each, features=without(each, source_of(each, train)))
        for each in dream(flights(40, missing=0), **settings)
    ]
    packed, _ = pack_logs(train, space_of(train), make_normalize(), COLUMNS, whole)
    assert realism(packed, HISTORY, HORIZON).auc == 0.5
    packed, _ = pack_logs(train, space_of(train), make_normalize(), COLUMNS, filled)
    assert realism(packed, HISTORY, HORIZON).auc > 0.5
    these = windows(packed, np.arange(40), HISTORY, HORIZON)
    assert np.isfinite(rarity(these, these)).all()


def without(each, start):
    """A dream's own frames, with a history that misses what the log misses there."""
    source, begin = start
    gone = np.isnan(source.features[begin : begin + each.length])
    gone[HISTORY:] = False
    return np.where(gone, np.nan, each.features)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Normalized, trained, exported and validated."""
    found = Project(tmp_path_factory.mktemp("kinds"), make_train(encoder="gru", steps=60, rho=0.0))
    train = flights()
    found.write(train, splits_of(train), COLUMNS).train()
    found.export()
    return found


def test_a_bundle_of_every_kind_equals_its_model_and_is_measured(project):
    result = project.validate()
    assert result["onnx"]["equivalent"] == 1
    assert result["mse"]["mean"] < result["baseline"]["persistence"]["mse"]
    assert 0.5 < result["coverage"]["p90"] <= 1
    rows, predicted = (read_csv((project.plots / name).read_text()) for name in ("features.csv", "predicted.csv"))
    assert {row["feature"] for row in rows} == {"heading (degrees)", "position (m)", "mode", "feature 3"}
    assert [float(row["model"]) for row in rows] == sorted((float(row["model"]) for row in rows), reverse=True)
    assert {row["feature"].split(" minus ")[0] for row in predicted} < {row["feature"] for row in rows}
    assert not any(np.isnan(float(row["real"])) for row in predicted)


def test_scores_are_those_of_a_plain_loop_over_readings(project):
    held_out, scaler, packed = project.held_out(), project.scaler, project.read_packed().packed
    predictors = Predictors.fitted(project.client(), scaler, packed)
    found, spread = score(predictors, held_out), scaler.features.spread
    for number in (0, len(held_out) - 1):
        batch = held_out.take(np.array([number]))
        future, real = predictors.future(batch), predictors.real(batch)[0]
        for k in range(HORIZON):
            errors = []
            for feature in np.flatnonzero(~np.isnan(real[k])):
                apart = future.features[0, k, feature] - real[k, feature]
                if feature == HEADING:
                    apart = (apart + 180) % 360 - 180
                if feature == MODE:
                    apart = (apart != 0) * np.sqrt(2)
                errors.append((apart / spread[feature]) ** 2)
            assert found.weight[number, k] == pytest.approx(len(errors) / 4)
            assert found["model"][number, k] == pytest.approx(np.mean(errors), rel=1e-5)


def test_another_answer_for_a_missing_reading_is_found(project):
    class Careless:
        def __init__(self, model):
            self.model = model

        def encode(self, features, **inputs):
            return self.model.encode(np.nan_to_num(features), **inputs)

        def __getattr__(self, name):
            return getattr(self.model, name)

    trained = project.read_trained().model
    honest, careless = (
        parity.largest_difference(client, trained, project.scaler, project.held_out())
        for client in (project.client(), Careless(project.client()))
    )
    assert honest < 1e-4 < careless


def test_test_episodes_without_a_reading_to_predict_are_refused(project, tmp_path):
    every = flights()
    splits = splits_of(every)
    beyond = np.arange(LENGTH)[:, None] >= HISTORY
    blank = [
        replace(each, features=np.where(beyond, np.nan, each.features)) if split == "test" else each
        for each, split in zip(every, splits, strict=True)
    ]
    other = Project(tmp_path, project.settings).write(blank, splits, COLUMNS)
    shutil.copytree(project.bundles, other.bundles)
    with pytest.raises(ValueError, match="no reading after their first 3 frames"):
        other.validate()
