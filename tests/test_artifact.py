import io
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.numpy
import safetensors.torch
import torch
import yaml
from dvc.utils.serialize import loads_yaml

from factories import make_train
from test_episodes import contents
from test_model import SHAPE, random_model
from worldmodel.core.fingerprint import sha256
from worldmodel.core.yaml12 import parse
from worldmodel.model.artifact import Trained, read_compute, read_trained, write_trained, yaml_text

MANIFEST = {
    "action_kind": "continuous",
    "arguments": vars(make_train(history=3, threads=2, numerics="fast", steps=10, batch_size=8)),
    "bits": {"numerics": "fast"},
    "code": "0" * 64,
    "data": {"arrays": {"features": "1" * 64}, "normalizer": "2" * 64},
    "dreams_drawn": 20,
    "selected": {"step": 3, "val_mse": 0.25},
    "shape": SHAPE.to_dict(),
    "versions": {"numpy": "2.0"},
    "windows": {"observed": 3, "dream": 1, "val": 0},
}


@pytest.fixture
def trained():
    return Trained(random_model(), MANIFEST)


def test_what_is_written_is_read_back(tmp_path, trained):
    manifest = write_trained(tmp_path, trained)
    found = read_trained(tmp_path)
    weights = sha256(tmp_path / "weights.safetensors")
    assert found.manifest == manifest == MANIFEST | {"weights": weights}
    assert found.model.shape == SHAPE
    assert not found.model.training
    expected = trained.model.state_dict()
    assert list(found.model.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())


def test_a_manifest_of_before_context_and_missing_readings_is_read(tmp_path, trained):
    write_trained(tmp_path, trained)
    manifest = yaml.safe_load((tmp_path / "manifest.yaml").read_text())
    del manifest["shape"]["context"], manifest["shape"]["masked"]
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    assert read_trained(tmp_path).model.shape == SHAPE


def test_weights_are_plain_arrays_that_anyone_can_read(tmp_path, trained):
    write_trained(tmp_path, trained)
    arrays = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {
        name: tuple(tensor.shape) for name, tensor in trained.model.state_dict().items()
    }


def test_two_folders_hold_the_same_bytes(tmp_path, trained):
    for folder in ("a", "b/c"):
        write_trained(tmp_path / folder, trained)
    assert contents(tmp_path / "a") == contents(tmp_path / "b/c")
    assert sorted(contents(tmp_path / "a")) == ["manifest.yaml", "weights.safetensors"]


def test_the_share_of_dreams_is_of_all_windows_drawn(trained):
    assert trained.dream_share == 0.25


def test_a_model_computes_as_it_was_trained_but_on_the_cpu(tmp_path, trained):
    write_trained(tmp_path, trained)
    found = read_compute(tmp_path)
    assert (found.threads, found.numerics, found.device) == (2, "fast", "cpu")


def test_text_that_looks_like_a_number_stays_text_whoever_reads_it():
    values = {"run_id": "123e45678901", "names": ["0o17", "1:30", "y", ".5e3", "12"], "numbers": [1e-5, 12, None]}
    text = yaml_text(values)
    assert parse(text) == yaml.safe_load(text) == loads_yaml(text) == values


def with_manifest(**changes):
    """A change of the manifest; a key that is None is taken out."""

    def spoil(folder):
        manifest = yaml.safe_load((folder / "manifest.yaml").read_text()) | changes
        kept = {key: value for key, value in manifest.items() if value is not None}
        (folder / "manifest.yaml").write_text(yaml.safe_dump(kept))

    return "manifest", spoil


def with_file(name, change):
    """Another content of a file, made of what it holds; or what takes its place."""

    def spoil(folder):
        path = next(folder.glob(f"{name}.*"))
        before = path.read_bytes()
        path.unlink()
        content = change(path) if change in (Path.mkdir, os.mkfifo) else change(before)
        if content is not None:
            path.write_bytes(content)

    return name, spoil


def noted(weights):
    """Other weights, and their hash in the manifest."""

    def spoil(folder):
        content = weights(dict(random_model().state_dict()))
        (folder / "weights.safetensors").write_bytes(content)
        with_manifest(weights=sha256(folder / "weights.safetensors"))[1](folder)

    return "weights", spoil


def pickled(tensors):
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


def filled(tensors, value):
    tensors["linear.bias"] = torch.full_like(tensors["linear.bias"], value)
    return safetensors.torch.save(tensors)


SPOILS = [
    with_file("weights", lambda _: None),
    with_file("weights", lambda _: b""),
    with_file("weights", lambda b: b[:-4]),
    with_file("weights", lambda b: b[:-4] + bytes(4)),
    with_file("weights", lambda b: b[:-4] + b"\0\0\xc0\x7f"),
    with_file("weights", Path.mkdir),
    with_file("weights", os.mkfifo),
    noted(pickled),
    noted(lambda _: b""),
    noted(lambda tensors: safetensors.torch.save({"linear.bias": tensors["linear.bias"]})),
    noted(lambda tensors: filled(tensors, math.nan)),
    noted(lambda tensors: filled(tensors, math.inf)),
    ("weights", with_manifest(shape=replace(SHAPE, hidden_dim=32).to_dict())[1]),
    with_file("manifest", lambda _: None),
    with_file("manifest", lambda _: b"a: ["),
    with_file("manifest", lambda _: b"shape: 3"),
    with_file("manifest", lambda _: b"\xff\xfe\xff"),
    with_file("manifest", lambda _: b"[" * 10**4),
    with_file("manifest", Path.mkdir),
    with_file("manifest", os.mkfifo),
    *(with_manifest(**{key: value}) for key in [*MANIFEST, "weights"] for value in (None, 3.5, [1])),
    with_manifest(more=1),
    with_manifest(shape=SHAPE.to_dict() | {"more": 1}),
    with_manifest(shape=SHAPE.to_dict() | {"features": "2"}),
    with_manifest(arguments=MANIFEST["arguments"] | {"lr": "fast"}),
]


@pytest.mark.parametrize("kind", range(len(SPOILS)))
def test_what_is_not_as_it_was_written_is_one_line_that_names_the_file(tmp_path, trained, kind):
    name, spoil = SPOILS[kind]
    write_trained(tmp_path, trained)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=rf"^\S*/{name}\.\w+: .{{1,300}}; run `dvc repro train`$"):
        read_trained(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_diverged_are_not_written(tmp_path, trained, value):
    trained.model.linear.bias.data[0] = value
    with pytest.raises(ValueError, match=r"^the training diverged: linear.bias holds NaN or infinity; lower train.lr$"):
        write_trained(tmp_path, trained)
    assert not list(tmp_path.iterdir())
