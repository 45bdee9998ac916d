"""The model registry: versions and stages are git tags, `dvc artifacts get` takes the bundle that they name."""

import numpy as np
import pytest
import yaml

from copies import ROOT
from teams import Member
from worldmodel.client import WorldModel

ARTIFACTS = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["artifacts"]


@pytest.fixture(scope="module")
def clone(template, tmp_path_factory):
    """Of a project that has moved on since its version was registered, with a folder as its remote."""
    folder = tmp_path_factory.mktemp("registry")
    owner = Member.copied(template, folder / "owner")
    owner.run("dvc", "remote", "add", "--default", "storage", str(folder / "remote"))
    owner.commit()
    owner.run("dvc", "push")
    owner.run("gto", "register", "worldmodel", "--version", "v0.1.0")
    owner.run("gto", "assign", "worldmodel", "--version", "v0.1.0", "--stage", "prod", "--simple", "true")
    owner.run("git", "rm", "--quiet", "dvc.lock")
    owner.commit()
    return Member.cloned(owner, folder / "clone")


def test_the_bundle_is_registered_with_what_it_is():
    assert ARTIFACTS["worldmodel"]["path"] == "artifacts/worldmodel"
    assert set(ARTIFACTS["worldmodel"]) == {"path", "type", "desc", "labels"}


def test_the_tags_say_which_version_is_where(clone):
    assert clone.run("git", "tag").split() == ["worldmodel#prod", "worldmodel@v0.1.0"]


@pytest.mark.parametrize("choice", [("--rev", "v0.1.0"), ("--stage", "prod"), ()], ids=["version", "stage", "newest"])
def test_a_fresh_clone_gets_a_bundle_that_opens(clone, tmp_path, choice):
    got = tmp_path / "model"
    clone.run("dvc", "artifacts", "get", ".", "worldmodel", *choice, "--out", str(got))
    model = WorldModel.load(got)
    history = np.zeros((model.history, model.feature_count), np.float32)
    z = model.encode(history, np.zeros((model.history - 1, model.action_count), np.float32))
    future = model.predict(z, np.zeros((model.horizon, model.action_count), np.float32))
    assert future.features.shape == (model.horizon, model.feature_count)
    assert np.isfinite(future.features).all()


def test_a_version_that_is_none_is_told(clone, tmp_path):
    said = clone.refused("dvc", "artifacts", "get", ".", "worldmodel", "--rev", "v9.9.9", "--out", str(tmp_path / "x"))
    assert "worldmodel" in said
    assert not (tmp_path / "x").exists()
