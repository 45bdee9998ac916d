"""dvc.yaml against the code, and the pipeline under DVC: what reruns, what is a cache hit, what stays the same."""

import importlib
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from copies import ENVIRONMENT
from factories import STAGES
from worldmodel.core import params
from worldmodel.core.fingerprint import import_closure

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))


def test_the_stages_are_the_six_in_their_order():
    assert list(PIPELINE["stages"]) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_every_file_it_imports_and_no_other(stage):
    imported = {path.relative_to(ROOT).as_posix() for path in import_closure(ROOT / "src" / f"{stage}.py")}
    named = {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith("src/")}
    assert named == imported


def test_dreams_depends_on_the_simulator_that_params_names():
    simulator = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["dreams"]["simulator"]
    entry = ROOT.joinpath(*simulator.split(":")[0].split(".")).with_suffix(".py")
    imported = {path.relative_to(ROOT).as_posix() for path in import_closure(entry)}
    assert imported <= set(PIPELINE["stages"]["dreams"]["deps"])


@pytest.mark.parametrize(("stage", "declared"), STAGES.items())
def test_a_stage_lists_the_params_that_it_can_read(stage, declared):
    *listed, versions = PIPELINE["stages"][stage]["params"]
    assert listed == list(params.leaves(declared))
    assert versions == {"versions.yaml": list(importlib.import_module(stage).LIBRARIES)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_own_file_and_says_what_it_does(stage):
    entry = PIPELINE["stages"][stage]
    assert entry["cmd"].startswith(f"python src/{stage}.py ")
    assert not set(entry["cmd"]) & set("|&;<>$`")
    assert entry["desc"]


def test_every_param_is_read_by_some_stage():
    listed = {leaf for entry in PIPELINE["stages"].values() for leaf in entry["params"] if isinstance(leaf, str)}
    assert listed == set(params.leaves(params.Params))


def test_no_out_switches_the_run_cache_off():
    for entry in PIPELINE["stages"].values():
        assert all(isinstance(out, str) for out in entry.get("outs", []))


def test_the_first_run_leaves_a_bundle_and_finite_metrics(copy):
    bundles = list((copy.folder / "artifacts/worldmodel").iterdir())
    assert [len(bundle.name) for bundle in bundles] == [12]
    assert {path.name for path in bundles[0].iterdir()} == {
        "README.md",
        "encoder.onnx",
        "manifest.yaml",
        "normalizer.json",
        "params.yaml",
        "predictor.onnx",
        "weights.safetensors",
    }
    metrics = json.loads(copy.read("artifacts/metrics.json"))
    assert metrics["onnx"]["equivalent"] == 1
    assert metrics["dreams"]["share"] == 0.5


def test_a_second_run_runs_nothing(copy):
    assert copy.repro() == (set(), set())
    assert "up to date" in copy.run("dvc", "status")


def test_another_rho_reruns_three_stages_and_going_back_none(copy):
    metrics = copy.read("artifacts/metrics.json")
    copy.set_train(rho=0.25)
    assert copy.repro() == ({"train", "export", "validate"}, set())
    diff = json.loads(copy.run("dvc", "metrics", "diff", "--json"))
    assert diff["artifacts/metrics.json"]["dreams.share"] == {"old": 0.5, "new": 0.25, "diff": -0.25}
    copy.set_train(rho=0.5)
    assert copy.repro() == (set(), {"train", "export", "validate"})
    assert copy.read("artifacts/metrics.json") == metrics


def test_a_forced_run_leaves_the_lock_as_it_is(copy):
    lock = copy.read("dvc.lock")
    assert copy.repro("--force") == (set(STAGES), set())
    assert copy.read("dvc.lock") == lock


def test_an_experiment_changes_what_it_is_told_to(copy):
    ran = copy.run("dvc", "exp", "run", "--temp", "-S", "train.lr=0.00001")
    assert {line.split("'")[1] for line in ran.splitlines() if line.startswith("Running stage")} == {
        "train",
        "export",
        "validate",
    }
    shown = json.loads(copy.run("dvc", "exp", "show", "--json"))
    experiment = shown[1]["experiments"][0]["revs"][0]
    assert float(experiment["data"]["params"]["params.yaml"]["data"]["train"]["lr"]) == 1e-05


def test_a_stage_with_bad_params_says_which_key_and_what_is_expected(copy, tmp_path):
    other = copy.again(tmp_path / "project")
    other.write("params.yaml", other.read("params.yaml").replace("rho_schedule: constant", "rho_schedule: constnat"))
    command = ["dvc", "repro"]
    done = subprocess.run(command, cwd=other.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "train.rho_schedule: found 'constnat', expected 'constant', 'linear' or 'cosine'" in done.stderr
    assert "Traceback" not in done.stderr
