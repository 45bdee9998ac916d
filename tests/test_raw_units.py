"""Graphs and client in raw units: missing readings, context, angles, categories, float64; all of them beside torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from test_model import SHAPE, random_model
from worldmodel.arrays import scaler as scales
from worldmodel.client import WorldModel
from worldmodel.episodes.columns import Column, Columns
from worldmodel.episodes.table import Table
from worldmodel.export import graph

FRAMES, EAST = 400, 4.5e6  # m
ANGLE, GEAR, CLOCK = Column("heading", "degrees", "angle"), Column("gear", "", "category"), Column("hour", "h")
PLAIN = Column("speed", "m/s")

# features of each kind, actions (None, integers or vectors), context columns, and what else is special
CASES = {
    "category, context alone": ((GEAR, PLAIN), None, (CLOCK,), {}),
    "masked integers and context": ((PLAIN, PLAIN), "discrete", (CLOCK, ANGLE), {"masked": True}),
    "angle, one frame": ((PLAIN, ANGLE), "continuous", (CLOCK,), {"masked": True, "history": 1}),
    "wide": ((PLAIN, ANGLE, GEAR), "continuous", (), {"wide": True}),
    "all": ((PLAIN, ANGLE, GEAR), "discrete", (CLOCK,), {"masked": True, "wide": True}),
}


def values(columns, rng, wide=False, frames=FRAMES):
    drawn = {
        "value": lambda: rng.normal(3, 2, frames) + (EAST if wide else 0),
        "angle": lambda: rng.uniform(0, 360, frames),
        "category": lambda: rng.choice([1.0, 2.0, 4.0], frames),
    }
    array = np.stack([drawn[column.kind]() for column in columns], axis=1)
    return array if wide else array.astype(np.float32)


def made(case):
    """A random model and its scales."""
    columns, kind, around, special = CASES[case]
    rng, fields = np.random.default_rng(0), dict(special)
    wide = fields.pop("wide", False)
    taken = {
        None: None,
        "continuous": rng.normal(size=(FRAMES, 2)),
        "discrete": np.eye(3)[rng.integers(3, size=FRAMES)],
    }
    actions = None if taken[kind] is None else taken[kind].astype(np.float32)
    context = values(around, rng) if around else None
    table = Table(
        np.arange(FRAMES, dtype=float), values(columns, rng, wide), actions, np.ones(FRAMES, np.float32), None, context
    )
    found = scales.fit([table], "standard", 1e-8, kind == "discrete", Columns(columns, (), around))
    widths = [len(each.center) for each in (found.features, found.actions, found.context)]
    shape = replace(SHAPE, features=widths[0], actions=widths[1] + widths[2], context=widths[2], z_dim=16, **fields)
    return random_model(shape), found


@pytest.fixture(scope="module", params=CASES)
def bundle(request, tmp_path_factory):
    """Case, torch model, scales and the loaded graphs."""
    model, scaler = made(request.param)
    kind = CASES[request.param][1] or "none"
    said = {"run_id": "0" * 12, "action_kind": kind, "horizon": f"{model.shape.horizon}"} | (
        {"missing": "mask"} if model.shape.masked else {}
    )
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "encoder.onnx").write_bytes(graph.encoder_graph(model, scaler, said, 20))
    (folder / "predictor.onnx").write_bytes(graph.predictor_graph(model, scaler, said, 20))
    return request.param, model, scaler, WorldModel.load(folder)


def inputs(case, client, batch=5):
    """features, past actions, past context, planned actions, planned context; raw units."""
    columns, kind, around, special = CASES[case]
    rng = np.random.default_rng(1)

    def moves(frames):
        if kind == "discrete":
            return np.eye(3, dtype=np.float32)[rng.integers(3, size=(batch, frames))]
        return rng.normal(size=(batch, frames, 2)).astype(np.float32) if kind else None

    def met(frames):
        return values(around, rng, frames=batch * frames).reshape(batch, frames, -1) if around else None

    features = values(columns, rng, special.get("wide", False), batch * client.history)
    features = features.reshape(batch, client.history, -1)
    if special.get("masked"):
        features[rng.random(features.shape) < 0.4] = np.nan
    past, plan = client.history - 1, client.horizon
    return features, *((moves(past), met(past)) if past else (None, None)), moves(plan), met(plan)


def test_sizes_are_those_of_the_logs(bundle):
    case, _, _, client = bundle
    columns, kind, around, special = CASES[case]
    assert (client.feature_count, client.context_count) == (len(columns), len(around))
    assert client.action_count == {None: 0, "continuous": 2, "discrete": 3}[kind]
    assert client.masked == special.get("masked", False)
    assert client.encoder.get_inputs()[0].type == ("tensor(double)" if special.get("wide") else "tensor(float)")


def test_graphs_say_what_torch_says_through_the_scaler(bundle):
    case, model, scaler, client = bundle
    features, past, before, planned, ahead = inputs(case, client)
    z = client.encode(features, past, before)
    future = client.predict(z, planned, ahead)

    def standardized(actions, context, frames):
        given = ((scaler.actions, actions), (scaler.context, context))
        parts = [affine.transform(raw) for affine, raw in given if raw is not None]
        return torch.from_numpy(np.concatenate(parts, axis=2)) if parts else torch.zeros(5, frames, model.shape.actions)

    history = scaler.features.transform(features)
    known = torch.from_numpy((~np.isnan(history)).astype(np.float32)) if client.masked else None
    with torch.no_grad():
        given = torch.from_numpy(np.nan_to_num(history)), standardized(past, before, client.history - 1)
        expected_z = model.encode(*given, known)
        expected = model.predict(expected_z, standardized(planned, ahead, client.horizon))
    np.testing.assert_allclose(z, expected_z.numpy(), rtol=1e-4, atol=1e-4)
    apart = scaler.features.residual(future.features, scaler.features.inverse(expected.features.numpy()))
    assert np.abs(apart).max() < 1e-4
    assert future.features.dtype == (np.float64 if CASES[case][3].get("wide") else np.float32)


def test_torch_in_raw_units_says_what_the_graphs_say(bundle):
    case, model, scaler, client = bundle
    features, past, before, planned, ahead = inputs(case, client)
    tensors = [None if part is None else torch.from_numpy(part) for part in (features, past, before, planned, ahead)]
    with torch.no_grad():
        z = graph.RawEncoder(model, scaler)(*tensors[:3])
        expected = graph.RawPredictor(model, scaler)(z, *tensors[3:])
    future = client.predict(client.encode(features, past, before), planned, ahead)
    for name, wanted in zip(graph.outputs(model.shape), expected, strict=True):
        found = getattr(future, name)
        assert found.dtype == wanted.numpy().dtype
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-3)


def test_a_short_plan_gives_the_beginning_of_a_long_one(bundle):
    case, _, _, client = bundle
    features, past, before, planned, ahead = inputs(case, client)
    z = client.encode(features, past, before)
    long = client.predict(z, planned, ahead)
    short = client.predict(z, *(None if part is None else part[:, :2] for part in (planned, ahead)))
    single = client.predict(z[0], *(None if part is None else part[0, :2] for part in (planned, ahead)))
    for whole, part, one in zip(
        *([each for each in found if each is not None] for found in (long, short, single)), strict=True
    ):
        np.testing.assert_allclose(part, whole[:, :2], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(one, whole[0, :2], rtol=1e-4, atol=1e-3)


def test_angles_stay_in_the_range_of_the_logs_and_categories_are_those_of_the_logs(bundle):
    case, _, _, client = bundle
    features, past, before, planned, ahead = inputs(case, client, batch=200)
    future = client.predict(client.encode(features, past, before), planned, ahead)
    assert (future.std >= 0).all()
    for at, column in enumerate(CASES[case][0]):
        if column.kind == "angle":
            assert future.features[..., at].min() >= 0
            assert future.features[..., at].max() <= 360
            assert future.std[..., at].max() <= 104  # of an angle that may be any
        if column.kind == "category":
            assert set(np.unique(future.features[..., at])) <= {1, 2, 4}
            assert future.std[..., at].max() <= 3


def test_metres_of_a_map_lose_nothing_that_float32_would(tmp_path):
    """UTM coordinates with steps of 1 cm, predicted by the linear model that made them."""
    column = np.cumsum(np.full((200, 1), 0.01), axis=0) + EAST
    table = Table(np.arange(200.0), column, np.zeros((200, 1), np.float32), None, None)
    scaler = scales.fit([table], "standard", 1e-8, one_hot=False)
    model = random_model(replace(SHAPE, features=1, actions=1, rewards=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.delta_std.fill_(1)
        model.damping.zero_()
        model.linear.bias.fill_(0.01 / float(scaler.features.scale[0]))
    said = {"run_id": "0" * 12, "action_kind": "continuous", "horizon": f"{model.shape.horizon}"}
    for name, made_graph in (("encoder", graph.encoder_graph), ("predictor", graph.predictor_graph)):
        (tmp_path / f"{name}.onnx").write_bytes(made_graph(model, scaler, said, 20))
    client = WorldModel.load(tmp_path)
    plan, past = np.zeros((client.horizon, 1)), np.zeros((client.history - 1, 1))
    future = client.predict(client.encode(column[50 : 50 + client.history], past), plan)
    real = column[50 + client.history : 50 + client.history + client.horizon]
    assert np.abs(future.features - real).max() < 1e-6
    assert np.abs(real.astype(np.float32) - real).max() > 0.03
