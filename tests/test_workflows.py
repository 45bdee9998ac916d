""".github/workflows as a reader of their security sees them, and against the Makefile."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}
WORKFLOWS = {name: yaml.load(text, yaml.BaseLoader) for name, text in TEXTS.items()}
JOBS = {f"{name}:{job}": spec for name, flow in WORKFLOWS.items() for job, spec in flow["jobs"].items()}
STEPS = [(job, step) for job, spec in JOBS.items() for step in spec["steps"]]
WRITERS = {"review.yml:comment": {"pull-requests": "write"}}


def test_the_two_workflows_run_for_pull_requests_and_never_with_the_targets_rights():
    assert set(WORKFLOWS) == {"ci.yml", "review.yml"}
    for flow in WORKFLOWS.values():
        assert "pull_request" in flow["on"]
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(flow["on"])


@pytest.mark.parametrize("job", JOBS)
def test_a_job_may_read_and_only_the_comment_may_write(job):
    default = WORKFLOWS[job.split(":")[0]]["permissions"]
    assert JOBS[job].get("permissions", default) == WRITERS.get(job, {"contents": "read"})
    assert int(JOBS[job]["timeout-minutes"]) <= 60


@pytest.mark.parametrize("job", WRITERS)
def test_a_job_that_may_write_runs_nothing_of_the_pull_request(job):
    assert not [step for step in JOBS[job]["steps"] if "actions/checkout" in step.get("uses", "")]
    assert [step["run"].split()[0] for step in JOBS[job]["steps"] if "run" in step] == ["gh"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in JOBS[job]["if"]


@pytest.mark.parametrize("name", TEXTS)
def test_every_action_is_pinned_to_a_commit_and_says_its_version(name):
    used = re.findall(r"uses: (.*)", TEXTS[name])
    assert used
    for line in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_the_pipeline_is_tried_on_each_system_and_python_that_it_promises():
    rows = JOBS["ci.yml:ci"]["strategy"]["matrix"]["include"]
    assert {(row["os"], row["python"]) for row in rows} == {
        *(("ubuntu-24.04", f"3.{minor}") for minor in (11, 12, 13)),
        ("ubuntu-24.04-arm", "3.11"),
        ("macos-14", "3.11"),
    }
    assert sorted(row["run"] for row in rows) == [".ci/run", *["make smoke"] * (len(rows) - 1)]
    assert {spec["runs-on"] for spec in JOBS.values()} == {"ubuntu-24.04", "${{ matrix.os }}"}


def test_a_checkout_leaves_no_token_behind():
    checkouts = [step for _, step in STEPS if "actions/checkout" in step.get("uses", "")]
    assert len(checkouts) == 3
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_nothing_that_a_pull_request_names_is_pasted_into_a_shell():
    assert not [step["run"] for _, step in STEPS if "${{" in step.get("run", "")]
    assert not [step for _, step in STEPS if "script" in step.get("with", {})]


HOSTILE = "x y\"; touch pwned; $(shell touch pwned) $(touch pwned) `touch pwned`' $HOME * ${PATH} #"
TARGET = "x\"$(touch${IFS}pwned)`touch${IFS}pwned`'*$HOME"  # what of it make can take for a file
CALLS = {  # target, variable -> arguments, in which HOSTILE stands for its value
    ("gate", "BASE"): ["gate", "--base", HOSTILE],
    ("pr-report", "BASE"): ["pr-report", "--base", HOSTILE],
    ("pr-report", "OUT"): ["pr-report", "--base", "origin/main", "--out", HOSTILE],
    ("report", "OUT"): ["report", "--out", HOSTILE],
    ("check-logs", "LOGS"): ["check-logs", "--", HOSTILE],
    ("remote", "URL"): ["remote", "--", HOSTILE],
    ("remote", "ENDPOINT"): ["remote", "--endpoint", HOSTILE, "--", ""],
    ("remote", "KEYS"): ["remote", "--", ""],
    ("sweep", "S"): ["sweep", *HOSTILE.split()],
    ("sweep", "JOBS"): ["sweep", "--jobs", HOSTILE],
    ("bench-scale", "SIZE"): ["-m", "research.bench_scale", "--megabytes", HOSTILE],
    ("peers", "LOGS"): ["-m", "research.peers.table", "--logs", HOSTILE],
    ("export-mlflow", "TO"): ["track", "mlflow", "--to", HOSTILE],
    ("pins", "PYTHON"): [*HOSTILE.split(), "-m", "venv", ".venv"],
    ("pins", "VENV"): ["-m", "venv", TARGET],
}


def made(folder, target, *given, **environment):
    """Arguments of each command that the target calls, all of which only note how they were called."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("worldmodel", "python", "python3", ".venv-trackers/bin/worldmodel", "scripts/pins.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('#!/bin/sh\nfor each; do printf "%s\\n" "$each" >>called; done\n')
        (folder / name).chmod(0o755)
    paths = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    old = [part for file in (".venv/pipeline", ".venv-trackers/ready") for part in ("--old-file", file)]
    subprocess.run(["make", *old, target, *given], cwd=folder, env=os.environ | paths | environment, check=False)
    return (folder / "called").read_text().splitlines()


@pytest.mark.parametrize("how", ["environment", "command line"])
@pytest.mark.parametrize(("target", "variable"), CALLS)
def test_what_a_user_or_a_branchs_name_puts_into_a_variable_is_text(tmp_path, target, variable, how):
    value = {"PYTHON": f"python {HOSTILE}", "VENV": TARGET}.get(variable, HOSTILE)
    if how == "environment":
        called = made(tmp_path, target, **{variable: value})
    else:
        called = made(tmp_path, target, f"{variable}={value}")
    assert called == CALLS[target, variable]
    assert not list(tmp_path.rglob("pwned"))


def test_a_virtual_environment_is_one_path(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("a b", "", "a;touch pwned", "a:b"):
        done = subprocess.run(
            ["make", f"VENV={name}", "help"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert f"VENV={name}: expected one path without blanks" in done.stderr
        assert not (tmp_path / "pwned").exists()


def test_a_sweep_has_its_combinations_one_by_one_and_keys_are_kept_where_that_is_said(tmp_path):
    called = made(tmp_path, "sweep", "S=train.rho=0,0.3 train.seed=0,1,2", "JOBS=2")
    assert called == ["sweep", "train.rho=0,0.3", "train.seed=0,1,2", "--jobs", "2"]
    (tmp_path / "called").unlink()
    assert made(tmp_path, "remote", "URL=s3://a", "KEYS=keep") == ["remote", "--keep-keys", "--", "s3://a"]


def test_every_target_that_is_called_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    landing = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("make --jobs=2 --output-sync", "make")
    called = [
        target
        for text in (*TEXTS.values(), landing)
        for line in re.findall(r"make ((?:[a-z-]+ ?)+)", text)
        for target in line.split()
    ]
    assert set(called) == {"check", "test", "smoke", "fresh", "pr-report", "gate"}
    assert set(called) <= targets


def test_the_report_sees_all_history_and_is_there_before_a_gate_can_fail():
    checkout, *_ = JOBS["review.yml:report"]["steps"]
    assert checkout["with"]["fetch-depth"] == "0"
    commands = [step.get("run", step.get("uses", "")) for step in JOBS["review.yml:report"]["steps"]]
    order = [
        next(n for n, text in enumerate(commands) if part in text) for part in ("pr-report", "upload", "make gate")
    ]
    assert order == sorted(order)
    assert "--edit-last --create-if-none" in JOBS["review.yml:comment"]["steps"][-1]["run"]


def test_the_hook_before_a_commit_is_make_check():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repo["hooks"]
    assert repo["repo"] == "local"
    assert (hook["entry"], hook["language"], hook["pass_filenames"]) == ("make check", "system", False)
