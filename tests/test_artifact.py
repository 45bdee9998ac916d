from dataclasses import replace

import pytest
import safetensors.numpy
import torch
import yaml
from dvc.utils.serialize import loads_yaml

from test_episodes import contents
from test_model import SHAPE, random_model
from worldmodel.core.yaml12 import parse
from worldmodel.model.artifact import Trained, read_compute, read_trained, write_trained, yaml_text

MANIFEST = {
    "arguments": {"history": 3, "threads": 2, "numerics": "fast", "steps": 10, "batch_size": 8},
    "shape": SHAPE.to_dict(),
    "dreams_drawn": 20,
}


@pytest.fixture
def trained():
    return Trained(random_model(), MANIFEST)


def test_what_is_written_is_read_back(tmp_path, trained):
    write_trained(tmp_path, trained)
    found = read_trained(tmp_path)
    assert found.manifest == MANIFEST
    assert found.model.shape == SHAPE
    assert not found.model.training
    expected = trained.model.state_dict()
    assert list(found.model.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())


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


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "weights.safetensors").unlink(), r"weights\.safetensors: not the weights"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b""), r"weights\.safetensors: not the weights"),
        (lambda folder: cut(folder / "weights.safetensors"), r"weights\.safetensors: not the weights"),
        (lambda folder: (folder / "manifest.yaml").unlink(), r"manifest\.yaml: no such file"),
        (lambda folder: (folder / "manifest.yaml").write_text("a: ["), r"manifest\.yaml: not YAML"),
        (lambda folder: (folder / "manifest.yaml").write_text("shape: 3"), r"manifest\.yaml: not the manifest"),
        (lambda folder: (folder / "manifest.yaml").write_bytes(b"\xff\xfe\xff"), r"manifest\.yaml: not YAML"),
    ],
)
def test_a_folder_without_a_model_is_named(tmp_path, trained, spoil, message):
    write_trained(tmp_path, trained)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=rf"{message}(.|\n)*dvc repro train"):
        read_trained(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path, trained):
    write_trained(tmp_path, trained)
    other = MANIFEST | {"shape": replace(SHAPE, hidden_dim=32).to_dict()}
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(ValueError, match=r"not the weights of this model (.|\n)*size mismatch"):
        read_trained(tmp_path)


def test_a_pickle_is_never_opened(tmp_path, trained):
    write_trained(tmp_path, trained)
    torch.save(trained.model.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="not the weights of this model"):
        read_trained(tmp_path)
