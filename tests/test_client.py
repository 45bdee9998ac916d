import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from worldmodel.client import WorldModel, find_bundle
from worldmodel.core.student_t import half_width
from worldmodel.export.graph import RawEncoder, RawPredictor, outputs

GRAPHS = ("encoder.onnx", "predictor.onnx")
SRC = Path(__file__).parents[1] / "src"


def inputs(model, batch=4, seed=0, plan=None):
    """Random histories, past and planned actions, raw units; None where the model takes no actions."""
    rng = np.random.default_rng(seed)

    def moves(length):
        if not model.action_count:
            return None
        if model.discrete:
            return np.eye(model.action_count, dtype=np.float32)[rng.integers(model.action_count, size=(batch, length))]
        return rng.normal(size=(batch, length, model.action_count)).astype(np.float32)

    features = rng.normal(size=(batch, model.history, model.feature_count)).astype(np.float32)
    return features, moves(model.history - 1), moves(plan or model.horizon)


def row(parts, index):
    return [None if part is None else part[index] for part in parts]


def assert_close(one, other):
    assert (one.reward is None) == (other.reward is None)
    for left, right in zip(one, other, strict=True):
        if left is not None:
            assert left.shape == right.shape
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def model(project):
    return project.client()


@pytest.mark.parametrize("batch", [1, 3, 70])
def test_onnx_says_what_torch_says(variant, batch):
    model, trained, scaler = variant.client(), variant.read_trained().model, variant.scaler
    features, past, planned = inputs(model, batch)
    tensors = [None if part is None else torch.from_numpy(part) for part in (features, past, planned)]
    with torch.no_grad():
        z = RawEncoder(trained, scaler)(*tensors[:2])
        expected = RawPredictor(trained, scaler)(z, tensors[2])
    found = model.encode(features, past)
    np.testing.assert_allclose(found, z.numpy(), rtol=1e-5, atol=1e-5)
    future = model.predict(found, planned)
    for name, other in zip(outputs(trained.shape), expected, strict=True):
        np.testing.assert_allclose(getattr(future, name), other.numpy(), rtol=1e-4, atol=1e-5)


def test_sizes_are_those_of_the_trained_model(variant):
    model, shape = variant.client(), variant.read_trained().model.shape
    assert (model.history, model.horizon, model.z_dim) == (shape.history, shape.horizon, shape.z_dim)
    assert (model.feature_count, model.action_count) == (shape.features, shape.actions)
    assert model.run_id == variant.bundle.name
    assert model.discrete == (variant.read_trained().manifest["action_kind"] == "discrete")


def test_its_intervals_are_those_of_the_distribution_that_was_trained(variant):
    client, degrees = variant.client(), variant.read_trained().model.degrees
    assert client.degrees_of_freedom == degrees
    assert client.half_width() == half_width(degrees, 0.9)
    assert client.half_width(0.5) < client.half_width(0.9) < client.half_width(0.99)


def test_a_single_call_says_what_a_batch_says(variant):
    model = variant.client()
    features, past, planned = inputs(model)
    z = model.encode(features, past)
    future = model.predict(z, planned)
    for index in range(len(features)):
        one_z = model.encode(*row((features, past), index))
        assert one_z.shape == (model.z_dim,)
        np.testing.assert_allclose(one_z, z[index], rtol=1e-5, atol=1e-6)
        one = model.predict(one_z, row([planned], index)[0])
        assert_close(one, type(future)(*row(future, index)))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_short_plan_gives_the_beginning_of_a_long_one(model, length):
    features, past, planned = inputs(model)
    z = model.encode(features, past)
    long, short = model.predict(z, planned), model.predict(z, planned[:, :length])
    assert_close(short, type(long)(*(None if part is None else part[:, :length] for part in long)))


def test_steps_are_the_frames_of_a_plan_beyond_the_horizon_too(variant):
    model = variant.client()
    features, past, planned = inputs(model, plan=3 * model.horizon)
    z = model.encode(features, past)
    future = model.predict(z, planned)
    for k in range(future.features.shape[1]):
        z, frame = model.step(z, None if planned is None else planned[:, k])
        assert_close(frame, type(frame)(*(None if part is None else part[:, k] for part in future)))


def test_a_start_is_a_history_that_repeats_its_first_frame_without_actions(variant):
    model = variant.client()
    features, past, _ = inputs(model)
    still = None if past is None else np.zeros_like(past)
    z = model.encode(features[:, :1])
    np.testing.assert_array_equal(z, model.encode(features[:, :1].repeat(model.history, axis=1), still))
    np.testing.assert_allclose(model.encode(features[0, :1]), z[0], rtol=1e-5, atol=1e-6)


def test_plain_lists_will_do(model):
    features, past, planned = inputs(model)
    z = model.encode(features.tolist(), past.tolist())
    assert_close(model.predict(z.tolist(), planned.tolist()), model.predict(z, planned))


@pytest.fixture(scope="module")
def discrete(projects):
    return projects("gru").client()


def test_integers_stand_for_one_hot_actions(discrete):
    features, past, planned = inputs(discrete)
    z = discrete.encode(features, past)
    np.testing.assert_array_equal(discrete.encode(features, past.argmax(-1)), z)
    np.testing.assert_array_equal(discrete.encode(features[0], past[0].argmax(-1)), z[0])
    assert_close(discrete.predict(z, planned.argmax(-1)), discrete.predict(z, planned))
    assert_close(discrete.predict(z[0], planned[0].argmax(-1).tolist()), discrete.predict(z[0], planned[0]))


@pytest.mark.parametrize(("wrong", "message"), [(3, r"actions hold \d\.\.3, expected 0\.\.2"), (-1, r"hold -1\.\.\d")])
def test_an_integer_out_of_range_is_refused(discrete, wrong, message):
    z = discrete.encode(*inputs(discrete)[:2])
    plan = inputs(discrete)[2].argmax(-1)
    plan[1, 1] = wrong
    with pytest.raises(ValueError, match=message):
        discrete.predict(z, plan)


def array(*shape, at=None, value=np.nan):
    found = np.zeros(shape, np.float32)
    if at is not None:
        found[at] = value
    return found


@pytest.mark.parametrize(
    ("features", "actions", "message"),
    [
        (array(4, 4, 2), array(4, 2, 3), r"features has shape \[4, 4, 2\], expected \[batch, 3, 2\]"),
        (array(4, 3, 5), array(4, 2, 3), r"features has shape \[4, 3, 5\], expected \[batch, 3, 2\]"),
        (array(3), array(2, 3), r"features has 1 axes, expected 3, or 2 for a single one"),
        (array(1, 4, 3, 2), array(4, 2, 3), r"features has 4 axes"),
        (array(4, 3, 2), None, r"no actions are given, expected \[4, 2, 3\]"),
        (array(4, 3, 2), array(4, 3, 3), r"actions has shape \[4, 3, 3\], expected \[4, 2, 3\]"),
        (array(4, 3, 2), array(4, 2, 2), r"actions has shape \[4, 2, 2\], expected \[4, 2, 3\]"),
        (array(4, 3, 2), array(3, 2, 3), r"actions has shape \[3, 2, 3\], expected \[4, 2, 3\]"),
        (array(4, 3, 2), array(4), r"actions has 1 axes, expected 3"),
        (array(3, 2), array(4, 2, 3), r"actions has shape \[4, 2, 3\], expected \[1, 2, 3\]"),
        (array(4, 3, 2, at=(1, 1, 1)), array(4, 2, 3), r"features holds NaN or infinity"),
        (array(4, 3, 2), array(4, 2, 3, at=(0, 0, 0), value=np.inf), r"actions holds NaN or infinity"),
        ([[0, 0], [0]], None, r"inhomogeneous"),
        (array(4, 3, 2), np.zeros((4, 2), int), r"actions has shape \[1, 4, 2\], expected \[4, 2, 3\]"),
    ],
)
def test_a_history_that_does_not_fit_is_refused(model, features, actions, message):
    with pytest.raises(ValueError, match=message):
        model.encode(features, actions)


@pytest.mark.parametrize(
    ("z", "actions", "message"),
    [
        (array(4, 7), array(4, 4, 3), r"z has shape \[4, 7\], expected \[batch, 8\]"),
        (array(2, 4, 8), array(4, 4, 3), r"z has 3 axes, expected 2"),
        (array(4, 8, at=(0, 0)), array(4, 4, 3), r"z holds NaN or infinity"),
        (array(4, 8), None, r"no actions are given, expected \[4, 4, 3\]"),
        (array(4, 8), array(4, 0, 3), r"a plan of 0 actions, expected 1 or more"),
        (array(8), array(0, 3), r"a plan of 0 actions"),
        (array(4, 8), array(4, 4, 2), r"actions has shape \[4, 4, 2\], expected \[4, 4, 3\]"),
        (array(4, 8), array(2, 4, 3), r"actions has shape \[2, 4, 3\], expected \[4, 4, 3\]"),
        (array(4, 8), array(4, 4, 3, at=(3, 3, 2)), r"actions holds NaN or infinity"),
        (array(4, 8), array(4), r"actions has shape \[4\], expected one plan for each z"),
        (array(8), 1, r"actions has shape \[\], expected a plan"),
        (array(8), array(1, 4, 3), r"actions has shape \[1, 4, 3\], expected \[1, 1, 3\]"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(model, z, actions, message):
    with pytest.raises(ValueError, match=message):
        model.predict(z, actions)


def test_the_only_bundle_of_a_folder_is_found(project):
    assert find_bundle(project.bundles) == find_bundle(project.bundle) == project.bundle
    assert WorldModel.load(str(project.bundles)).run_id == WorldModel.load(project.bundle).run_id


def test_two_bundles_are_one_too_many(tmp_path, project):
    for name in ("aaa", "bbb"):
        shutil.copytree(project.bundle, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds 2 bundles \(aaa, bbb\), name one of them"):
        WorldModel.load(tmp_path)
    assert WorldModel.load(tmp_path / "bbb").history


def test_a_copied_renamed_or_linked_bundle_keeps_its_run_id(tmp_path, project):
    run_id = project.bundle.name
    copied = tmp_path / "bundles" / run_id
    shutil.copytree(project.bundle, copied)
    (tmp_path / "bundles" / "current").symlink_to(run_id)
    assert find_bundle(tmp_path / "bundles") == copied
    renamed = copied.rename(tmp_path / "in-production")
    (tmp_path / "linked").symlink_to(renamed)
    assert {WorldModel.load(path).run_id for path in (renamed, tmp_path / "linked")} == {run_id}


def without_metadata(path, *names):
    model = onnx.load(path)
    kept = {item.key: item.value for item in model.metadata_props if item.key not in names}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, path)


def bare(project, folder):
    """The two graphs alone, as users copy them."""
    folder.mkdir()
    for name in GRAPHS:
        shutil.copy(project.bundle / name, folder)
    return folder


def test_the_manifest_names_a_bundle_of_the_format_without_run_id_in_its_graphs(tmp_path, project):
    bundle = bare(project, tmp_path / "old")
    for name in GRAPHS:
        without_metadata(bundle / name, "run_id")
    with pytest.raises(ValueError, match=r"old: no run_id in the graphs' metadata or in manifest\.yaml"):
        WorldModel.load(bundle)
    (bundle / "manifest.yaml").write_text(f"a: 1\nrun_id: {project.bundle.name}\n")
    assert WorldModel.load(bundle).run_id == project.bundle.name


def test_graphs_of_two_bundles_are_refused(tmp_path, project, projects):
    bundle, other = bare(project, tmp_path / "mixed"), projects("gru").bundle
    shutil.copy(other / "predictor.onnx", bundle)
    ids = f"encoder.onnx is of bundle {project.bundle.name}, predictor.onnx of bundle {other.name}"
    with pytest.raises(ValueError, match=ids):
        WorldModel.load(bundle)
    without_metadata(bundle / "encoder.onnx", "run_id")
    with pytest.raises(ValueError, match=f"encoder.onnx is of bundle unknown, predictor.onnx of bundle {other.name}"):
        WorldModel.load(bundle)


def of(name, change):
    """Another content of a graph, made of what it holds; None takes it away."""

    def spoil(bundle):
        path = bundle / name
        content = change(path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    return name, spoil


def swapped(name):
    (other,) = set(GRAPHS) - {name}
    return name, lambda bundle: shutil.copy(bundle / other, bundle / name)


def instead(name, make):
    def spoil(bundle):
        (bundle / name).unlink()
        make(bundle / name)

    return name, spoil


def with_weight(name, number, value):
    """One number of the initializer with this number, or of the last one, replaced."""

    def spoil(bundle):
        model = onnx.load(bundle / name)
        weights = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT]
        tensor = weights[number]
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.ravel()[-1] = value
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        onnx.save(model, bundle / name)

    return name, spoil


SPOILS = [
    *(
        of(name, change)
        for name in GRAPHS
        for change in (
            lambda _: b"",
            lambda b: b[: len(b) // 2],
            lambda b: b[:-1],
            lambda _: b"garbage" * 100,
            lambda _: b"\0" * 10**5,
        )
    ),
    *(swapped(name) for name in GRAPHS),
    *(instead(name, make) for name in GRAPHS for make in (Path.mkdir, os.mkfifo, lambda path: None)),
    *((name, lambda bundle, name=name: without_metadata(bundle / name, "action_kind")) for name in GRAPHS),
    *(with_weight(name, number, value) for name in GRAPHS for number in (0, -1, 5) for value in (np.nan, -np.inf)),
]


@pytest.mark.parametrize("kind", range(len(SPOILS)))
@pytest.mark.parametrize("alone", [True, False])
def test_a_graph_that_was_not_exported_so_is_one_line_that_names_it(tmp_path, projects, kind, alone):
    name, spoil = SPOILS[kind]
    bundle = tmp_path / "damaged"
    bare(projects("gru"), bundle) if alone else shutil.copytree(projects("gru").bundle, bundle)
    spoil(bundle)
    with pytest.raises(ValueError, match=rf"^\S*damaged(/{name}|: no {name}).{{1,600}}`dvc repro export`$"):
        WorldModel.load(bundle)


def test_a_manifest_tells_a_weight_that_is_another_number(tmp_path, project):
    bundle = shutil.copytree(project.bundle, tmp_path / "bundle")
    with_weight("predictor.onnx", 0, 0.125)[1](bundle)
    with pytest.raises(ValueError, match=r"predictor\.onnx: damaged, or of other work"):
        WorldModel.load(bundle)
    manifest = (bundle / "manifest.yaml").read_text()
    (bundle / "manifest.yaml").write_text(manifest.replace("predictor.onnx:", "other.onnx:"))
    with pytest.raises(ValueError, match=r"predictor\.onnx: damaged, or of other work"):
        WorldModel.load(bundle)
    (bundle / "manifest.yaml").unlink()
    assert WorldModel.load(bundle).run_id == project.bundle.name


def test_no_bundle_is_an_error(tmp_path):
    for folder in ("", "gone"):
        with pytest.raises(ValueError, match=r"no encoder\.onnx here or one folder below; .*dvc repro export"):
            WorldModel.load(tmp_path / folder)


def test_the_client_needs_no_torch():
    code = "import sys, worldmodel.client; print(sorted({'torch', 'onnx', 'pydantic', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=SRC, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_actions_that_nobody_asked_for_are_refused(projects):
    model = projects("transformer").client()
    with pytest.raises(ValueError, match="the model takes none here"):
        model.encode(array(4, 3, 2), array(4, 2, 1))
    with pytest.raises(ValueError, match="the model takes none here"):
        model.predict(array(4, 8), array(4, 4, 1))
