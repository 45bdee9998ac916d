import json
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from factories import make_episodes, make_scaler
from projects import Project
from test_model import SHAPE, random_model
from worldmodel.export import graph

ROOT = Path(__file__).parents[1]


def graphs(project: Project) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(project.bundle / f"{name}.onnx") for name in ("encoder", "predictor", "step")}


def shapes(values):
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values
    }


def test_inputs_and_outputs_are_as_promised(variant):
    encoder, predictor, step = graphs(variant).values()
    shape = variant.read_trained().model.shape
    h, f, a, z = shape.history, shape.features, shape.actions, shape.z_dim
    k = "K" if a else shape.horizon
    scalars = ["disagreement"] + ["reward"] * shape.rewards
    assert shapes(encoder.graph.input) == {"features": ["batch", h, f]} | (
        {"actions": ["batch", h - 1, a]} if a else {}
    )
    assert shapes(encoder.graph.output) == {"z": ["batch", z]}
    assert shapes(predictor.graph.input) == {"z": ["batch", z]} | ({"actions": ["batch", k, a]} if a else {})
    frames = {"features": ["batch", k, f], "std": ["batch", k, f], **{name: ["batch", k] for name in scalars}}
    has_policy = variant.read_trained().policy is not None
    assert shapes(predictor.graph.output) == frames | ({"z_next": ["batch", z]} if has_policy else {})
    assert shapes(step.graph.input) == {"z": ["batch", z]} | ({"action": ["batch", a]} if a else {})
    frame = {name: ["batch", *sizes[2:]] for name, sizes in frames.items()}
    assert shapes(step.graph.output) == {"z_next": ["batch", z]} | frame
    assert list(shapes(predictor.graph.output)) == [*frames, *["z_next"] * has_policy]


KINDS = [
    {"rewards": False, "terminals": True},
    {"actions": 0},
    {"z_dim": 5, "history": 1},
    {"horizon": 1, "features": 1, "actions": 1},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_plans_of_any_length_and_steps_are_what_torch_says_of_them(kind):
    shape = replace(SHAPE, **{"z_dim": 16, **kind})
    episodes = make_episodes(
        4,
        9,
        features=shape.features,
        actions=shape.actions,
        kind="continuous" if shape.actions else "none",
        rewards=shape.rewards,
    )
    model, scaler = random_model(shape), make_scaler(episodes)
    if "terminals" in kind:
        model.sensor_min.fill_(-0.7)
        model.sensor_max[0] = 0.4
    if "history" in kind:
        model.damping.zero_()
    opened = {
        name: onnxruntime.InferenceSession(make(model, scaler, {}, 20))
        for name, make in (("predictor", graph.predictor_graph), ("step", graph.step_graph))
    }
    rng = np.random.default_rng(0)
    for batch, frames in ((1, 1), (3, 2), (2, 4 * shape.horizon)) if shape.actions else ((1, shape.horizon),):
        z = np.concatenate([rng.normal(size=(batch, shape.z_dim - 2)), [[3, 0.5]] * batch], axis=1).astype(np.float32)
        plan = rng.normal(size=(batch, frames, shape.actions)).astype(np.float32)
        given = {"actions": plan} if shape.actions else {}
        found = opened["predictor"].run(None, {"z": z, **given})
        with torch.no_grad():
            expected = graph.RawPredictor(model, scaler)(*map(torch.from_numpy, (z, *given.values())))
        stepped = []
        for t in range(frames):
            z, *frame = opened["step"].run(None, {"z": z} | ({"action": plan[:, t]} if shape.actions else {}))
            stepped.append(frame)
        frames = [np.stack(each, axis=1) for each in zip(*stepped, strict=True)]
        assert len(found) == len(expected) == len(frames) == len(graph.outputs(shape))
        for onnx_says, torch_says, steps_say in zip(found, expected, frames, strict=True):
            np.testing.assert_allclose(onnx_says, torch_says.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(onnx_says, steps_say, rtol=1e-5, atol=1e-5)


def test_a_graph_does_not_depend_on_those_that_were_exported_before(project):
    model, scaler = project.read_trained().model, project.scaler
    without = random_model(replace(SHAPE, actions=0))
    graph.predictor_graph(without, make_scaler(make_episodes(4, 9, features=4, kind="none", actions=0)), {}, 20)
    metadata = metadata_of(graphs(project)["predictor"])
    assert (
        graph.predictor_graph(model, scaler, metadata, 20, goes_on=True)
        == (project.bundle / "predictor.onnx").read_bytes()
    )


def test_what_a_client_has_to_know_is_written_down_in_every_graph(variant):
    trained, scaler = variant.read_trained(), variant.scaler
    said = {"run_id": variant.bundle.name, "format": "2", "action_kind": trained.manifest["action_kind"]}
    said |= {"distribution": "student-t", "degrees_of_freedom": f"{trained.model.degrees:g}", "horizon": "4"}
    if trained.policy:
        unknown = float(trained.policy.unknown * scaler.rewards.spread[0])
        said |= {"discount": "0.98", "unknown_reward": f"{unknown:.6g}"}
    said |= {"interval_s": repr(trained.manifest["interval_s"])} if "interval_s" in trained.manifest else {}
    ranges = {"feature": scaler.features, "action": scaler.actions}
    ranges = {
        f"{part}_{end}": getattr(each, of)
        for part, each in ranges.items()
        for end, of in (("min", "low"), ("max", "high"))
    }
    for model in graphs(variant).values():
        found = metadata_of(model)
        for name, values in ranges.items():
            if said["action_kind"] == "continuous" or name.startswith("feature"):
                np.testing.assert_array_equal(np.float32(json.loads(found.pop(name))), values)
        assert found == said


def test_the_ir_version_is_the_least_that_the_opset_needs(project):
    model, scaler = project.read_trained().model, project.scaler
    for opset, ir_version in ((18, 8), (23, 11)):
        found = onnx.load_from_string(graph.encoder_graph(model, scaler, {}, opset))
        assert {each.domain: each.version for each in found.opset_import}[""] == opset
        assert found.ir_version == ir_version


def metadata_of(model):
    return {item.key: item.value for item in model.metadata_props}


def test_nothing_of_the_machine_is_inside(variant):
    words = [str(ROOT), str(variant.folder), str(Path.cwd()), sys.prefix, socket.gethostname(), ".py", "site-packages"]
    for name in ("encoder.onnx", "predictor.onnx", "step.onnx"):
        content = (variant.bundle / name).read_bytes()
        assert not [word for word in words if word.encode() in content]


@pytest.mark.parametrize("train", [True, False])
def test_raw_modules_scale_what_goes_in_and_unscale_what_comes_out(train):
    episodes = make_episodes(4, 9, features=4)
    scaler, model = make_scaler(episodes), random_model(replace(SHAPE, terminals=True)).train(train)
    rng = np.random.default_rng(0)
    features, past, planned = (
        rng.normal(3, 2, size=size).astype(np.float32) for size in ((5, 3, 4), (5, 2, 3), (5, 5, 3))
    )
    with torch.no_grad():
        z = graph.RawEncoder(model, scaler)(torch.from_numpy(features), torch.from_numpy(past))
        answers = graph.RawPredictor(model, scaler)(z, torch.from_numpy(planned))
        actions = [torch.from_numpy(scaler.actions.transform(part)) for part in (past, planned)]
        expected = model(torch.from_numpy(scaler.features.transform(features)), *actions)
    wanted = {
        "features": scaler.features.inverse(expected.features.numpy()),
        "std": np.exp(expected.log_std.numpy()) * scaler.features.scale,
        "disagreement": expected.disagreement.numpy(),
        "reward": scaler.rewards.inverse(expected.rewards.numpy()[..., None])[..., 0],
        "termination": 1 / (1 + np.exp(-expected.termination.numpy())),
    }
    assert graph.outputs(model.shape) == list(wanted)
    for found, other in zip(answers, wanted.values(), strict=True):
        np.testing.assert_allclose(found.numpy(), other, rtol=1e-4, atol=1e-5)
