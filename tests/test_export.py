import shutil
from dataclasses import replace

import pytest
import yaml

from commands import stage
from projects import Project, export_stage
from test_episodes import contents
from worldmodel.core.fingerprint import fingerprint, sha256
from worldmodel.model.artifact import read_trained
from worldmodel.stages import export

FILES = ["README.md", "encoder.onnx", "manifest.yaml", "normalizer.json", "params.yaml", "predictor.onnx", "step.onnx"]
OF_POLICY = ["policy.safetensors", "prior.onnx", "value.onnx"]


@pytest.fixture
def quick(monkeypatch):
    """Graphs that cost no time, where the claim is about all else."""
    for name in ("encoder_graph", "predictor_graph", "step_graph"):
        monkeypatch.setattr(
            export, name, lambda model, scaler, metadata, opset, **_: f"{metadata['action_kind']} {opset}".encode()
        )
    monkeypatch.setattr(export, "policy_graphs", lambda *_: (b"prior", b"value"))


def run(project, out, settings=None):
    return export.export(project.trained, project.normalizer, out, settings or export_stage(project.settings))


def test_a_bundle_holds_all_that_users_take_away(variant):
    more = OF_POLICY if variant.read_trained().policy else []  # where there are rewards to train one by
    assert bool(more) == variant.read_trained().model.shape.rewards
    assert sorted(contents(variant.bundle)) == sorted([*FILES, *more, "weights.safetensors"])
    assert (variant.bundle / "normalizer.json").read_bytes() == variant.normalizer.read_bytes()
    assert sha256(variant.bundle / "weights.safetensors") == sha256(variant.trained / "weights.safetensors")
    assert read_trained(variant.bundle).model.shape == variant.read_trained().model.shape


def test_the_run_id_is_the_fingerprint_of_what_the_manifest_says(variant):
    manifest = yaml.safe_load((variant.bundle / "manifest.yaml").read_text())
    run_id = manifest.pop("run_id")
    assert run_id == variant.bundle.name == fingerprint(manifest["exported"])[:12]
    assert manifest["exported"]["inputs"] == {
        "normalizer": sha256(variant.bundle / "normalizer.json"),
        "trained/manifest.yaml": sha256(variant.trained / "manifest.yaml"),
        **{
            f"trained/{name}": sha256(variant.bundle / name)
            for name in ("policy.safetensors", "weights.safetensors")
            if (variant.trained / name).exists()
        },
    }
    assert manifest["exported"]["params"] == yaml.safe_load((variant.bundle / "params.yaml").read_text())
    trained = variant.read_trained().manifest
    assert {name: manifest[name] for name in trained} == trained


def change_manifest(folder, **changes):
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest | changes))


def test_the_manifest_has_the_hash_of_every_other_file(variant):
    files = yaml.safe_load((variant.bundle / "manifest.yaml").read_text())["files"]
    assert files == {path.name: sha256(path) for path in variant.bundle.iterdir() if path.name != "manifest.yaml"}


@pytest.mark.usefixtures("quick")
def test_the_run_id_depends_on_params_and_on_every_byte_of_the_weights(project, tmp_path):
    settings = export_stage(project.settings)
    copy = Project(tmp_path, project.settings)
    shutil.copytree(project.trained, copy.trained)
    shutil.copy(project.normalizer, copy.normalizer)
    others = (settings, replace(settings, export=replace(settings.export, opset=21)), settings)
    ids = [run(copy, tmp_path / "out", given).name for given in others]
    assert ids[0] == ids[2] != ids[1]
    weights = bytearray((copy.trained / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy.trained / "weights.safetensors").write_bytes(weights)
    change_manifest(copy.trained, weights=sha256(copy.trained / "weights.safetensors"))
    assert run(copy, tmp_path / "out").name != ids[0]


@pytest.mark.usefixtures("quick")
def test_a_new_bundle_takes_the_place_of_the_old_one(project, tmp_path):
    settings = export_stage(project.settings)
    run(project, tmp_path / "out", replace(settings, export=replace(settings.export, opset=21)))
    bundle = run(project, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [bundle]
    assert (bundle / "encoder.onnx").read_bytes() == b"continuous 20"


@pytest.mark.usefixtures("quick")
def test_scales_of_another_training_are_refused_and_the_old_bundle_stays(project, tmp_path):
    bundle = run(project, tmp_path / "out")
    scales = tmp_path / "normalizer.json"
    scales.write_text(replace(project.scaler, method="minmax").to_json())
    with pytest.raises(ValueError, match=r"trained with other scales than .*normalizer\.json; run `dvc repro train`"):
        export.export(project.trained, scales, tmp_path / "out", export_stage(project.settings))
    assert bundle.is_dir()


def test_params_of_another_training_are_refused(project, tmp_path):
    settings = export_stage(replace(project.settings, rho=0.25))
    with pytest.raises(ValueError, match="trained with other params than the `train` section has"):
        export.export(project.trained, project.normalizer, tmp_path / "out", settings)


@pytest.mark.usefixtures("quick")
def test_what_is_no_bundle_stays_where_it_is(project, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    run(project, tmp_path)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_graph_that_fails_leaves_the_old_bundle(project, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(project.bundles, out)

    def fail(*_):
        raise RuntimeError("no graph")

    monkeypatch.setattr(export, "predictor_graph", fail)
    monkeypatch.setattr(export, "encoder_graph", fail)
    with pytest.raises(RuntimeError, match="no graph"):
        run(project, out)
    assert contents(out) == contents(project.bundles)


@pytest.mark.usefixtures("quick")
def test_the_stage_reads_params_and_arguments(project, tmp_path, capsys):
    changes = {"train": vars(project.settings), "export": {"opset": 19}, "validate": {"horizon": 4}}
    paths = {"trained": project.trained, "normalizer": project.normalizer, "out": tmp_path / "out"}
    assert stage("export", tmp_path, changes, **paths) == 0
    (bundle,) = (tmp_path / "out").iterdir()
    assert (bundle / "encoder.onnx").read_bytes() == b"continuous 19"
    assert f"{bundle}: encoder.onnx" in capsys.readouterr().out
