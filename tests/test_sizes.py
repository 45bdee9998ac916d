"""The six stages' functions, one after the other, on logs of very different sizes, shapes and scales."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_intake, make_normalize, make_train, write_logs
from projects import Project
from test_validate import flat
from worldmodel.arrays.windows import windows
from worldmodel.core import params
from worldmodel.episodes.schema import Episode
from worldmodel.evaluation.scoring import raw_inputs
from worldmodel.logs.reader import read_logs
from worldmodel.model.baselines import linear_baseline
from worldmodel.model.calibration import USUAL_SLOPE
from worldmodel.model.selection import mean_error
from worldmodel.stages import dreams, export, normalize, prepare, train

CPU = torch.device("cpu")
SPLITS = ("train", "val", "train", "test", "train")
ARRAYS = ("timestamps", "features", "actions")
pytestmark = pytest.mark.slow
SMALL = {"history": 3, "horizon": 2, "z_dim": 8, "hidden_dim": 8, "batch_size": 4, "steps": 6}


def marked(episodes: Sequence[Episode]) -> list[Episode]:
    """Episodes that say which split they belong to."""
    return [replace(each, split=split) for each, split in zip(episodes, cycle(SPLITS), strict=False)]


def with_features(episodes, changed):
    return marked([replace(each, features=changed(each.features).astype(np.float32)) for each in episodes])


def packed(folder, episodes, few=6, **fields) -> Project:
    """The logs dreamed from, prepared and normalized."""
    project = Project(folder, make_train(**(SMALL | fields)))
    settings = project.settings
    logs, intake, scales = write_logs(folder / "logs", episodes), make_intake(), make_normalize()
    compute = params.Compute(settings.history, settings.threads, settings.numerics, settings.device)
    asked = make_dreams(episodes=few, length=settings.horizon)
    dreams.dreams(logs, folder / "dreams", params.DreamsStage(asked, intake, scales, compute))
    prepare.prepare(logs, folder / "dreams", folder / "prepared", intake)
    normalize.normalize(folder / "prepared", project.normalized, project.normalizer, scales)
    return project


def whole(folder, episodes, **fields) -> Project:
    """All six stages, and what must hold whatever the sizes are."""
    project = packed(folder, episodes, **fields)
    project.train()
    stage = params.ExportStage(
        make_dreams(), make_intake(), make_normalize(), project.settings, params.Export(opset=20)
    )
    export.export(project.trained, project.normalizer, project.bundles, stage)
    require_metrics(project, project.validate())
    require_dreams(project)
    require_futures(project, episodes)
    require_selection(project)
    return project


def require_metrics(project, found):
    assert dict(flat(json.loads(project.metrics.read_text()))).keys() == dict(flat(found)).keys()
    assert all(np.isfinite(value) for _, value in flat(found))
    assert found["onnx"]["equivalent"] == 1, found["onnx"]


def require_dreams(project):
    """Valid episodes, whose actions were all logged or lie between logged ones."""
    dreamed, logged = (read_logs([project.folder / name], 60.0) for name in ("dreams", "logs"))
    assert not dreamed.rejects
    assert len(dreamed.episodes) == 6
    assert all(each.length > project.settings.history for each in dreamed.episodes)
    if logged.action_space.size:
        taken, known = (np.concatenate([each.actions for each in part.episodes]) for part in (dreamed, logged))
        assert (taken >= known.min(axis=0)).all()
        assert (taken <= known.max(axis=0)).all()


def require_futures(project, episodes):
    """The client answers with the promised shapes, a positive std, and constants where features never changed."""
    client, shape, held_out = project.client(), project.read_trained().model.shape, project.held_out()
    history, past, plan, *_ = raw_inputs(held_out.take(np.arange(1)), project.scaler)
    acts = shape.actions > 0
    z = client.encode(history[0], past[0] if past.size else None)
    future = client.predict(z, plan[0] if acts else None)
    assert z.shape == (shape.z_dim,)
    assert future.features.shape == future.std.shape == (shape.horizon, shape.features)
    assert (future.reward is not None) == shape.rewards == (episodes[0].rewards is not None)
    assert shape.actions == (0 if episodes[0].actions is None else plan.shape[2])
    assert (future.std > 0).all()
    assert all(np.isfinite(part).all() for part in future if part is not None)
    logged = np.concatenate([each.features for each in episodes])
    still = (logged == logged[0]).all(axis=0)
    expected = np.tile(logged[0, still], (shape.horizon, 1))
    np.testing.assert_allclose(future.features[:, still], expected, rtol=1e-6)


def require_selection(project):
    """On the windows that weights are chosen on, none does worse than ridge in z's coordinates, with which it began."""
    data, settings = project.read_packed(), project.settings
    val = windows(data.packed, data.packed.where("val"), settings.history, settings.horizon)
    start, model = train.initial_model(data.packed, settings, CPU), project.read_trained().model
    assert mean_error(model, val, CPU) <= mean_error(start, val, CPU) * (1 + 1e-5)
    assert mean_error(model, val, CPU) <= ridge_error(data.packed, val) * (1 + 1e-4) + 1e-9


def ridge_error(packed, val):
    batch = val.take(np.arange(len(val)))
    predicted = linear_baseline(packed).rollout(batch.history[:, -1], batch.planned_actions)
    return (np.square(predicted - batch.features).mean(axis=2) * batch.weight).sum() / batch.weight.sum()


def humanoid(count=10, length=8):
    """376 features that 20 numbers decide, 100 that are always 0, 17 actions."""
    base = make_episodes(count, length, features=3, actions=17)
    mixing = np.random.default_rng(0).normal(0, 1, (3, 276))
    return with_features(base, lambda x: np.concatenate([x @ mixing, np.zeros((len(x), 100))], axis=1))


def uneven(x):
    """Features of 1e6 and of 1e-6, far from 0, whole numbers, 0 or 1, and constant."""
    columns = [1e6 * x[:, 0], 1e-6 * x[:, 1], 1e6 + 1e3 * x[:, 2], np.round(3 * x[:, 3]), x[:, 4] > 0]
    return np.stack([*columns, np.full(len(x), 1e6), np.full(len(x), -1e-6)], axis=1)


def constant(episodes):
    """Nothing ever changes: features, actions, rewards."""
    return [
        replace(each, actions=np.full_like(each.actions, 0.3), rewards=np.full_like(each.rewards, 2.5))
        for each in with_features(episodes, lambda x: np.full_like(x, 3.7))
    ]


CASES = {
    "one feature, no actions, no rewards, one agent, one frame to predict": (
        lambda: marked(make_episodes(10, 4, 1, 0, kind="none", rewards=False, agents=1)),
        {},
    ),
    "two actions, windows of two frames": (
        lambda: marked(make_episodes(10, 2, 2, 2, kind="discrete")),
        {"history": 1, "horizon": 1, "encoder": "gru"},
    ),
    "sixty actions to choose from, one agent each": (
        lambda: marked(make_episodes(10, 60, 2, 60, kind="discrete", agents=10)),
        {"steps": 2},
    ),
    "five episodes of exactly one window, a long history": (
        lambda: marked(make_episodes(5, 18, 4, 1)),
        {"history": 16, "z_dim": 64, "encoder": "transformer"},
    ),
    "a humanoid whose state does not fit into z": (humanoid, {"z_dim": 32}),
    "nothing ever changes": (lambda: constant(make_episodes(10, 8)), {}),
    "all features but one are constant, and so are rewards": (
        lambda: [
            replace(each, rewards=np.full_like(each.rewards, -1e6))
            for each in with_features(make_episodes(10, 8), lambda x: x * [1, 0] + [0, 5])
        ],
        {"z_dim": 128},
    ),
    "features of very different scales": (lambda: with_features(make_episodes(20, 10, 5), uneven), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_pipeline_holds_its_promises(tmp_path, case):
    episodes, fields = CASES[case]
    whole(tmp_path, episodes(), **fields)


def test_two_thousand_short_episodes(tmp_path):
    project = whole(tmp_path, marked(make_episodes(2000, 5, rewards=False, agents=700)))
    assert len(project.read_packed().packed.lengths) == 2006
    assert json.loads(project.metrics.read_text())["skill"]["vs_persistence"] > 0.9


def test_features_of_a_millionth_are_predicted_and_not_taken_as_constant(tmp_path):
    project = packed(tmp_path, with_features(make_episodes(10, 8), lambda x: 1e-6 * x))
    assert not project.scaler.constant.any()
    np.testing.assert_allclose(project.read_packed().packed.features[:40].std(axis=0), 1, atol=0.5)


def test_a_horizon_of_64_frames_with_the_widest_agent(tmp_path):
    project = packed(tmp_path, humanoid(5, 80), history=16, horizon=64, z_dim=128, steps=2)
    project.train()
    require_dreams(project)
    require_selection(project)


@pytest.mark.parametrize("val", [True, False])
def test_a_start_that_grows_without_bound_beyond_short_episodes_is_trained_and_stays_finite(tmp_path, val):
    def growing(x):
        return x[:1] * 10.0 ** np.arange(len(x))[:, None]

    episodes = with_features(make_episodes(10, 6, rewards=False), growing)
    if not val:
        episodes = [replace(each, split="train" if each.split == "val" else each.split) for each in episodes]
    project = Project(tmp_path, make_train(**(SMALL | {"horizon": 60, "rho": 0.0})))
    project.write(episodes, [each.split for each in episodes])
    selected = project.train()["selected"]["val_mse"]
    model, held_out = project.read_trained().model, project.held_out()
    assert (selected is not None) == val
    assert np.isfinite(mean_error(model, held_out, CPU))
    assert np.isfinite(ridge_error(project.read_packed().packed, held_out))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_one_val_window_calibrates_every_frame_that_it_reaches(tmp_path):
    episodes = marked(make_episodes(5, 8, rewards=False))
    episodes[1] = replace(episodes[1], **{name: getattr(episodes[1], name)[:4] for name in ARRAYS})
    project = packed(tmp_path, episodes, horizon=3)
    assert project.train()["windows"]["val"] == 1
    model = project.read_trained().model
    assert model.log_std_offset.isfinite().all()
    assert model.log_std_slope == USUAL_SLOPE  # one window cannot tell another one


@pytest.mark.parametrize(
    ("length", "fields", "message"),
    [
        (3, {}, r"no window in split train: its longest episode has 3 frames, expected more than train\.history \(3\)"),
        (1, {"few": 0}, r"no window in split train: its longest episode has 1 frames.*or lower train\.history"),
    ],
)
def test_episodes_that_are_all_too_short_are_refused_in_one_sentence(tmp_path, length, fields, message):
    with pytest.raises(ValueError, match=message):
        packed(tmp_path, marked(make_episodes(5, length)), **fields).train()
