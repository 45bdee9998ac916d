"""studies/rho.py under DVC, in a copy of the project."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from copies import ENVIRONMENT, Copy
from research import rho

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Copy:
    return Copy.made(tmp_path_factory.mktemp("study") / "project")


def study(*more):
    options = ["--rhos", "0,0.5", "--sizes", "0", "--seeds", "1", "--jobs", "1", "--poll", "2", "--out", "found.md"]
    return [sys.executable, str(ROOT / "studies" / "rho.py"), *options, "--figure", "found.png", *more]


def test_a_study_that_is_killed_goes_on_where_it_was(project):
    killed = subprocess.Popen(
        study(), cwd=project.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while "1 of 3 runs finished" not in (line := killed.stdout.readline()):
        assert line, "the study ended before a run was finished"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = dict(line.split()[::-1] for line in experiments_of(project))
    assert before
    time.sleep(1)
    said = project.run(*study())
    after = dict(line.split()[::-1] for line in experiments_of(project))
    assert before.items() <= after.items()
    assert len(after) == 3
    assert "3 of 3 runs finished" in said
    queued = [line.split()[1] for line in project.run("dvc", "queue", "status").splitlines() if "Success" in line]
    assert len(queued) == len(set(queued)) == 3
    assert "3 runs, 3 of them finished" in project.run(*study("--dry-run"))
    (without,) = [commit for ref, commit in after.items() if "/rho-0-of-all" in ref]
    error = json.loads(project.run("git", "show", f"{without}:artifacts/metrics.json"))["mse"]["mean"]
    (row,) = [line for line in project.read("found.csv").splitlines() if line.startswith("all,rho 0,")]
    assert float(row.split(",")[5]) == pytest.approx(error, rel=1e-4)
    assert "| all | teacher | 1 |" in project.read("found.md")
    assert (project.folder / "found.png").stat().st_size > 10_000


def test_what_is_not_committed_is_not_studied(project):
    (project.folder / "params.yaml").write_text(project.read("params.yaml") + "# edited\n", encoding="utf-8")
    done = subprocess.run(study(), cwd=project.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: not as committed: params.yaml; commit or restore them first\n"


def test_rho_0_has_to_be_there(monkeypatch):
    with pytest.raises(ValueError, match="0 has to be among them"):
        rho.main(["--rhos", "0.3,0.5", "--dry-run"])


def experiments_of(project):
    lines = project.run("git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    return [line for line in lines if "-seed-" in line]
