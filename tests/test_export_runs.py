"""Against the real libraries where `make export-mlflow` has brought them; what is read is tested anywhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.core import run_records as records
from worldmodel.tracking import export_runs
from worldmodel.tracking.tracked import tracked

ROOT = Path(__file__).resolve().parent.parent
TRACKERS = ROOT / ".venv-trackers/bin/python"
BUNDLE, STOPPED = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
real = pytest.mark.skipif(not TRACKERS.exists(), reason="`make export-mlflow` has not brought the libraries yet")

READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
runs = client.search_runs([client.get_experiment_by_name("worldmodel").experiment_id])
print(json.dumps({run.info.run_name: {
    "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags, "status": run.info.status,
    "loss": [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss/val")],
} for run in runs}))
"""
READ_TENSORBOARD = """
import json, sys
from pathlib import Path
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = {}
for folder in Path(sys.argv[1]).iterdir():
    read = EventAccumulator(str(folder)).Reload()
    found[folder.name] = {tag: [(p.step, p.value) for p in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    found[folder.name]["plugins"] = list(read.summary_metadata)
print(json.dumps(found))
"""


def ran(project, run_id, stage):
    about = {"params": {"train": {"rho": 0.1, "encoder": "gru"}}, "code": "c0de", "versions": {"torch": "2.13.0"}}
    return records.attempt(project / "runs" / run_id, {"run_id": run_id, "stage": stage, "depends_on": about})


@pytest.fixture
def project(tmp_path):
    """A bundle that export made, measured and timed, and a training that was stopped."""
    with ran(tmp_path, BUNDLE, "export"):
        pass
    with pytest.raises(SystemExit), ran(tmp_path, STOPPED, "train"):
        raise SystemExit(143)
    files = {
        f"artifacts/worldmodel/{BUNDLE}/manifest.yaml": f"run_id: {BUNDLE}\n",
        f"artifacts/worldmodel/{BUNDLE}/params.yaml": "train:\n  rho: 0.1\n  encoder: gru\n",
        "artifacts/metrics.json": '{"mse": {"mean": 0.25, "h1": 0.125}}',
        "artifacts/timing.json": json.dumps({"inference": {"of": BUNDLE, "latency_ms_p50": 0.5}}),
        "artifacts/plots/loss.csv": "step,series,loss\n150,train,0.5\n150,val,0.75\n300,train,0.25\n300,val,0.5\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def by_id(project):
    return {each.run_id: each for each in tracked(project)}


def test_a_bundle_has_its_params_metrics_and_curves(project):
    found = by_id(project)[BUNDLE]
    assert found.params == {"train.rho": 0.1, "train.encoder": "gru"}
    assert found.metrics == {"mse.mean": 0.25, "mse.h1": 0.125, "timing.latency_ms_p50": 0.5}
    assert found.curves == {"loss/train": [(150, 0.5), (300, 0.25)], "loss/val": [(150, 0.75), (300, 0.5)]}


def test_a_stage_has_its_circumstances_and_how_it_ended(project):
    found = by_id(project)[STOPPED]
    assert (found.stage, found.outcome, found.metrics) == ("train", "failed", {})
    assert found.tags["outcome"] == "stopped, exit code 143"
    assert found.tags["versions.torch"] == "2.13.0"
    assert found.begun <= found.ended


def test_what_the_clock_said_of_another_bundle_is_left_out(project):
    (project / "artifacts/timing.json").write_text('{"inference": {"of": "cccccccccccc", "latency_ms_p50": 0.5}}')
    assert set(by_id(project)[BUNDLE].metrics) == {"mse.mean", "mse.h1"}


def test_a_bundle_from_a_remote_needs_no_record(project):
    (project / "runs" / BUNDLE / records.METADATA).unlink()
    assert by_id(project)[BUNDLE].params == {"train.rho": 0.1, "train.encoder": "gru"}


def test_a_bundle_in_a_folder_of_another_name_keeps_its_run_id(project):
    (project / "artifacts/worldmodel" / BUNDLE).rename(project / "artifacts/worldmodel/current")
    assert set(by_id(project)) == {BUNDLE, STOPPED}


def test_where_nothing_ran_one_line_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"nothing in runs/ and no bundle .* run `dvc repro` first"):
        tracked(tmp_path)


@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard"])
def test_without_the_library_it_says_how_to_get_it(project, monkeypatch, tracker):
    for name in ("mlflow", "tensorboard", "tensorboard.compat.proto"):
        monkeypatch.setitem(sys.modules, name, None)
    arguments = [tracker, "--project", str(project), "--to", str(project / "out")]
    with pytest.raises(ValueError, match=f"{tracker} cannot be imported here .*`make export-{tracker}` brings it"):
        export_runs.command.main(arguments, standalone_mode=False)


def bring(tracker, project, to):
    command = [TRACKERS, "-m", "worldmodel", "track", tracker, "--project", project, "--to", to]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def read(script, place):
    done = subprocess.run([TRACKERS, "-c", script, place], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@real
def test_mlflow_reads_what_it_was_brought_and_each_run_once(project):
    place = f"sqlite:///{project / 'mlflow.db'}"
    assert "2 runs brought, 0 were there already" in bring("mlflow", project, place)
    assert "0 runs brought, 2 were there already" in bring("mlflow", project, place)
    (project / "artifacts/metrics.json").write_text('{"mse": {"mean": 0.5}}')
    assert "1 runs brought, 1 were there already" in bring("mlflow", project, place)
    found = read(READ_MLFLOW, place)
    assert set(found) == {f"export {BUNDLE}", f"train {STOPPED}"}
    bundle = found[f"export {BUNDLE}"]
    assert bundle["params"] == {"train.rho": "0.1", "train.encoder": "gru"}
    assert bundle["metrics"]["mse.mean"] == 0.5
    assert bundle["loss"] == [[150, 0.75], [300, 0.5]]
    assert [found[name]["status"] for name in sorted(found)] == ["FINISHED", "FAILED"]


@real
def test_tensorboard_reads_what_it_was_brought_and_each_run_once(project, tmp_path):
    assert "2 runs brought, 0 were there already" in bring("tensorboard", project, tmp_path / "board")
    assert "0 runs brought, 2 were there already" in bring("tensorboard", project, tmp_path / "board")
    (project / "artifacts/metrics.json").write_text('{"mse": {"mean": 0.5}}')
    assert "1 runs brought, 1 were there already" in bring("tensorboard", project, tmp_path / "board")
    found = read(READ_TENSORBOARD, tmp_path / "board")
    assert set(found) == {f"export-{BUNDLE}", f"train-{STOPPED}"}
    assert found[f"export-{BUNDLE}"]["mse.mean"] == [[0, 0.5]]
    assert found[f"export-{BUNDLE}"]["loss/val"] == [[150, 0.75], [300, 0.5]]
    assert "_hparams_/session_start_info" in found[f"train-{STOPPED}"]["plugins"]
