import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from factories import make_episodes, make_scaler
from projects import Project
from test_model import SHAPE, random_model
from worldmodel.export import graph

ROOT = Path(__file__).parents[1]


def graphs(project: Project) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(project.bundle / f"{name}.onnx") for name in ("encoder", "predictor")}


def shapes(values):
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values
    }


def test_inputs_and_outputs_are_as_promised(variant):
    encoder, predictor = graphs(variant).values()
    shape = variant.read_trained().model.shape
    h, k, f, a, z = shape.history, shape.horizon, shape.features, shape.actions, shape.z_dim
    past = {"actions": ["batch", h - 1, a]} if a else {}
    plan = {"actions": ["batch", k, a]} if a else {}
    reward = {"reward": ["batch", k]} if shape.rewards else {}
    assert shapes(encoder.graph.input) == {"features": ["batch", h, f], **past}
    assert shapes(encoder.graph.output) == {"z": ["batch", z]}
    assert shapes(predictor.graph.input) == {"z": ["batch", z], **plan}
    assert shapes(predictor.graph.output) == {"features": ["batch", k, f], "std": ["batch", k, f], **reward}


def test_what_a_client_has_to_know_is_written_down_in_every_graph(variant):
    trained, scaler = variant.read_trained(), variant.scaler
    said = {"run_id": variant.bundle.name, "format": "2", "action_kind": trained.manifest["action_kind"]}
    said |= {"distribution": "student-t", "degrees_of_freedom": f"{trained.model.degrees:g}", "horizon": "4"}
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
    for opset, ir_version in ((18, 8), (20, 9), (23, 11)):
        found = onnx.load_from_string(graph.encoder_graph(model, scaler, {}, opset))
        assert {each.domain: each.version for each in found.opset_import}[""] == opset
        assert found.ir_version == ir_version


def metadata_of(model):
    return {item.key: item.value for item in model.metadata_props}


def test_nothing_of_the_machine_is_inside(variant):
    words = [str(ROOT), str(variant.folder), str(Path.cwd()), sys.prefix, socket.gethostname(), ".py", "site-packages"]
    for name in ("encoder.onnx", "predictor.onnx"):
        content = (variant.bundle / name).read_bytes()
        assert not [word for word in words if word.encode() in content]


@pytest.mark.parametrize("train", [True, False])
def test_raw_modules_scale_what_goes_in_and_unscale_what_comes_out(train):
    episodes = make_episodes(4, 9, features=4)
    scaler, model = make_scaler(episodes), random_model().train(train)
    rng = np.random.default_rng(0)
    features, past, planned = (
        rng.normal(3, 2, size=size).astype(np.float32) for size in ((5, 3, 4), (5, 2, 3), (5, 5, 3))
    )
    with torch.no_grad():
        z = graph.RawEncoder(model, scaler)(torch.from_numpy(features), torch.from_numpy(past))
        found = graph.RawPredictor(model, scaler)(z, torch.from_numpy(planned))
        actions = [torch.from_numpy(scaler.actions.transform(part)) for part in (past, planned)]
        expected = model(torch.from_numpy(scaler.features.transform(features)), *actions)
    wanted = (
        scaler.features.inverse(expected.features.numpy()),
        np.exp(expected.log_std.numpy()) * scaler.features.scale,
        scaler.rewards.inverse(expected.rewards.numpy()[..., None])[..., 0],
    )
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-5)


def test_without_actions_raw_modules_take_none():
    shape = replace(SHAPE, actions=0)
    scaler = make_scaler(make_episodes(4, 9, features=4, kind="none", actions=0))
    model = random_model(shape)
    features = torch.randn(5, 3, 4)
    z = graph.RawEncoder(model, scaler)(features)
    assert z.shape == (5, 8)
    assert [tuple(part.shape) for part in graph.RawPredictor(model, scaler)(z)] == [(5, 5, 4), (5, 5, 4), (5, 5)]


@pytest.mark.slow
def test_the_same_bytes_come_out_again_and_in_another_process_and_folder(project, tmp_path):
    model, scaler = project.read_trained().model, project.scaler
    metadata = metadata_of(graphs(project)["predictor"])
    again = graph.predictor_graph(model, scaler, metadata, 20)
    assert again == (project.bundle / "predictor.onnx").read_bytes()
    code = f"""
from pathlib import Path
from worldmodel.export import graph
from worldmodel.model import artifact
from worldmodel.numerics import setup
from worldmodel.arrays.scaler import Scaler
setup.configure(artifact.read_compute(Path({str(project.trained)!r})))
model = artifact.read_trained(Path({str(project.trained)!r})).model
scaler = Scaler.read(Path({str(project.normalizer)!r}))
Path("encoder.onnx").write_bytes(graph.encoder_graph(model, scaler, {metadata!r}, 20))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "encoder.onnx").read_bytes() == (project.bundle / "encoder.onnx").read_bytes()
