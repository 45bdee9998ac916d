"""Which bundles are opened, and which are refused with a reason."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.internal.encoder import _VarintBytes

from tiny_bundles import GRAPHS, graph, write_bundle
from worldmodel.client import WorldModel
from worldmodel.core.onnx_weights import flaw

OLD = Path(__file__).parent / "old_bundle"  # exported before there was a step


def test_what_the_metadata_says(tmp_path):
    model = WorldModel.load(write_bundle(tmp_path / "bundle"))
    assert (model.history, model.horizon, model.feature_count, model.action_count) == (3, 4, 2, 3)
    assert (model.context_count, model.z_dim, model.interval_s, model.degrees_of_freedom) == (1, 14, 0.05, 3)
    assert (model.feature_names, model.discrete, model.masked, model.cold_starts) == (("x", "y"), False, False, True)
    assert [each.tolist() for each in model.feature_range] == [[-1, -2.5], [1, 2]]
    assert [each.tolist() for each in model.context_range] == [[0], [24]]
    assert model.action_range is None


def test_an_old_bundle_predicts_what_it_did(tmp_path):
    model = WorldModel.load(shutil.copytree(OLD, tmp_path / "old"))
    z = model.encode([[1, 2], [3, 4]], [[0.5]])
    future = model.predict(z, [[1], [-1]])
    np.testing.assert_allclose(z, [0.014387, 0.328755, 1.078667, 1.013209, -0.208707, -0.221710], atol=1e-5)
    np.testing.assert_allclose(future.features, [[0.062083, 2.258893], [-0.903516, 2.759457]], atol=1e-4)
    np.testing.assert_allclose(future.reward, [1.420180, 1.860667], atol=1e-4)
    np.testing.assert_allclose(model.predict(z, [[1]]).features, future.features[:1], atol=1e-6)
    assert (model.horizon, model.interval_s, future.disagreement, future.termination) == (2, 0.05, None, None)
    assert future.alive.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"1 to 2 \(the model's horizon\); for more, export it again with `dvc repro"):
        model.predict(z, np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"bundle 0{12} has no step\.onnx: .*; export it again with `dvc repro"):
        model.step(z, [1])
    with pytest.raises(ValueError, match=r"features has 1 frames, expected 2: .*; export it again with `dvc repro"):
        model.encode([[1, 2]])


def test_a_step_of_another_bundle_is_refused(tmp_path):
    def other(graphs):
        graphs["step"] = graph("step", run_id="f" * 12)

    with pytest.raises(ValueError, match=r"encoder\.onnx is of bundle 0+, .*, step\.onnx of bundle f+; take all of"):
        WorldModel.load(write_bundle(tmp_path / "mixed", other))


def test_a_step_that_the_manifest_has_and_the_folder_has_not_is_missed(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "step.onnx").unlink()
    assert WorldModel.load(bundle).history
    (bundle / "manifest.yaml").write_text(f"files:\n  step.onnx: {'0' * 64}\n")
    with pytest.raises(ValueError, match=r"damaged, or of other work|step\.onnx: no such file"):
        WorldModel.load(bundle)


LIES = [
    ({"horizon": "many"}, r"horizon 'many', expected a whole number above 0"),
    ({"horizon": "2.5"}, r"horizon '2\.5', expected a whole number"),
    ({"horizon": "0"}, r"horizon '0'"),
    ({"horizon": "inf"}, r"horizon 'inf'"),
    ({"horizon": None}, r"its metadata has no horizon"),
    ({"interval_s": "nan"}, r"interval_s 'nan', expected a number above 0"),
    ({"interval_s": "-1"}, r"interval_s '-1'"),
    ({"degrees_of_freedom": "2"}, r"degrees_of_freedom '2', expected a number above 2"),
    ({"degrees_of_freedom": "heavy"}, r"degrees_of_freedom 'heavy'"),
    ({"distribution": "cauchy"}, r"distribution 'cauchy', expected normal or student-t"),
    ({"action_kind": "none"}, r"action_kind 'none', expected discrete or continuous"),
    ({"missing": "guess"}, r"missing 'guess', expected mask"),
    ({"format": "3"}, r"format '3', expected 1 or 2"),
    ({"feature_names": '["x"]'}, r"feature_names '\[\"x\"\]', expected 2 texts"),
    ({"feature_names": "x, y"}, r"feature_names 'x, y'"),
    ({"feature_min": "[0]"}, r"\['feature_min', 'feature_max'\] \['\[0\]'.*expected 2 finite numbers each, in order"),
    ({"feature_min": "[NaN, 0]"}, r"feature_min"),
    ({"feature_min": "[3, 0]"}, r"feature_min"),
    ({"feature_max": None}, r"feature_min"),
    ({"feature_max": '{"x": 1}'}, r"feature_min"),
    ({"context_max": "[" * 10**5}, r"context_min"),
]


@pytest.mark.parametrize(("said", "message"), LIES)
def test_metadata_that_cannot_be_so_is_refused(tmp_path, said, message):
    with pytest.raises(ValueError, match=rf"^\S*/predictor\.onnx: .*{message}.*; make it with `dvc repro export`$"):
        WorldModel.load(write_bundle(tmp_path / "bundle", **said))


def text(name, old, new):
    """A change of a graph's text."""

    def change(graphs):
        assert old in GRAPHS[name]
        graphs[name] = graph(name, GRAPHS[name].replace(old, new))

    return name, change


OTHERS = [
    (*text("encoder", " z", " latent"), r"it has features, actions, context -> latent and"),
    (
        *text("encoder", "3, 2] f", "T, 2] f"),
        r"features is tensor\(float\) \['batch', 'T', 2\], expected floats \[batch, H",
    ),
    (
        *text("encoder", "[batch, 3, 2] f", "[1, 3, 2] f"),
        r"features is tensor\(float\) \[1, 3, 2\], expected floats \[b",
    ),
    (*text("encoder", "2, 1] c", "2, 0] c"), r"context is "),
    (*text("predictor", "14] z", "13] z"), r"z is tensor\(float\) \['batch', 13\], expected floats \[batch, 14\]"),
    (*text("predictor", "K] reward", "K] wealth"), r"no readable ONNX graph|it has .*wealth"),
    (*text("step", "action", "move"), r"it has z, move, context -> z_next, features"),
    (*text("step", "14] z,", "14] z, float features,"), r"no readable ONNX graph|it has z, features"),
    (*text("step", "float[batch, 1] c", "float c"), r"context is tensor\(float\) \[\], expected floats \[batch, 1\]"),
]


@pytest.mark.parametrize(("name", "change", "message"), OTHERS)
def test_a_graph_of_other_inputs_or_sizes_is_refused(tmp_path, name, change, message):
    with pytest.raises(ValueError, match=rf"/{name}\.onnx: .*{message}.*; make it with `dvc repro export`$"):
        WorldModel.load(write_bundle(tmp_path / "bundle", change))


def tensor_of(change):
    """A change of the weights of step."""
    return lambda graphs: change(graphs["step"].graph.initializer[0])


def elsewhere(tensor):
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def stored(value, kind, raw):
    def change(tensor):
        array = np.full(6, value).reshape(3, 2)
        if raw:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(kind), tensor.name))
        else:
            number = {np.float32: onnx.TensorProto.FLOAT, np.float64: onnx.TensorProto.DOUBLE}[kind]
            tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, number, [3, 2], array.ravel()))

    return change


def in_a_branch(tensor):
    """Within the body of an If within that of another."""

    def change(graphs):
        inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
        for _ in range(2):
            node = onnx.helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
            inner = onnx.helper.make_graph([node], "outer", [], [])
        graphs["step"].graph.node.extend(inner.node)

    return change


def constant(tensor):
    return lambda graphs: graphs["step"].graph.node.append(onnx.helper.make_node("Constant", [], ["k"], value=tensor))


def sparse(graphs):
    graphs["step"].graph.sparse_initializer.add().dims.append(10**12)


def custom(graphs):
    graphs["step"].graph.node[0].domain = "com.evil"
    graphs["step"].opset_import.add(domain="com.evil", version=1)


NAN = onnx.helper.make_tensor("hidden", onnx.TensorProto.FLOAT, [1], [np.nan])
HUGE = onnx.TensorProto(name="huge", data_type=1, dims=[2**40], raw_data=b"1234")
FLAWS = {
    "external": (tensor_of(elsewhere), "w lies in another file"),
    "external without a location": (tensor_of(lambda t: t.external_data.add(key="location", value="x")), "w lies in"),
    **{
        f"{value} {kind.__name__} {raw}": (tensor_of(stored(value, kind, raw)), "w holds NaN or infinity")
        for value in (np.nan, np.inf)
        for kind in (np.float32, np.float64)
        for raw in (True, False)
    },
    "huge": (tensor_of(lambda t: t.CopyFrom(HUGE)), r"huge is said to hold 1099511627776 numbers.*has 4 bytes"),
    "negative": (tensor_of(lambda t: t.dims.__setitem__(0, -3)), r"w is said to hold \d+ numbers"),
    "too few": (tensor_of(lambda t: t.float_data.pop()), r"w is said to hold 6 numbers, and the file has 20 bytes"),
    "integers": (lambda g: g["step"].graph.initializer[1].dims.__setitem__(0, 10**9), r"one is said to hold 10{9} num"),
    "text": (tensor_of(lambda t: setattr(t, "data_type", onnx.TensorProto.STRING)), "w holds numbers of type 8"),
    "in a branch": (in_a_branch(NAN), "hidden holds NaN or infinity"),
    "huge in a branch": (in_a_branch(HUGE), "huge is said to hold"),
    "constant": (constant(NAN), "hidden holds NaN or infinity"),
    "sparse": (sparse, "sparse weights"),
    "custom": (custom, "operator Add is of domain com.evil, expected ONNX's own"),
}


@pytest.mark.parametrize("kind", FLAWS)
def test_a_graph_is_refused_before_it_is_opened(tmp_path, monkeypatch, kind):
    change, message = FLAWS[kind]
    bundle = write_bundle(tmp_path / "bundle", change)
    monkeypatch.setattr("onnxruntime.InferenceSession", _opens(bundle / "step.onnx"))
    with pytest.raises(ValueError, match=rf"/step\.onnx: .*{message}.*; make it with `dvc repro export`$"):
        WorldModel.load(bundle)


def _opens(path):
    """An InferenceSession that must not see a file."""
    real = __import__("onnxruntime").InferenceSession

    def opened(content, *args, **kwargs):
        assert content != path.read_bytes()
        return real(content, *args, **kwargs)

    return opened


def test_no_number_hides_in_fields_that_are_not_packed():
    key = lambda number, wire: _VarintBytes(number << 3 | wire)  # noqa: E731
    floats = b"".join(key(4, 5) + np.float32(each).tobytes() for each in (1, np.nan))
    tensor = key(1, 0) + b"\2" + key(2, 0) + b"\1" + floats + key(8, 2) + b"\1w"
    graphs = key(5, 2) + _VarintBytes(len(tensor)) + tensor
    assert flaw(key(7, 2) + _VarintBytes(len(graphs)) + graphs) == "w holds NaN or infinity"
    assert flaw((key(7, 2) + _VarintBytes(len(graphs)) + graphs).replace(b"\0\0\xc0\x7f", b"\0\0\x80\x3f")) is None


@pytest.mark.parametrize("name", GRAPHS)
def test_a_file_that_was_cut_is_refused_wherever_it_was(tmp_path, name):
    bundle = write_bundle(tmp_path / "bundle")
    whole = (bundle / f"{name}.onnx").read_bytes()
    for end in range(0, whole.index(b"run_id"), 7):
        (bundle / f"{name}.onnx").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=rf"/{name}\.onnx: .*dvc repro export"):
            WorldModel.load(bundle)


def test_a_body_within_a_body_without_end_is_refused():
    message = b""
    for _ in range(5000):  # a graph in an attribute of a node of a graph
        for number in (6, 5, 1):
            message = _VarintBytes(number << 3 | 2) + _VarintBytes(len(message)) + message
    with pytest.raises((ValueError, RecursionError)):
        flaw(_VarintBytes(7 << 3 | 2) + _VarintBytes(len(message)) + message)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads):
    with pytest.raises(ValueError, match=f"{threads} threads, expected 1 or more"):
        WorldModel.load(OLD, threads=threads)
