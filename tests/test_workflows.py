""".github/workflows as a reader of their security sees them, and against the Makefile."""

import re
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


def test_machines_and_python_have_versions():
    assert {spec["runs-on"] for spec in JOBS.values()} == {"ubuntu-24.04"}
    assert {s["with"]["python-version"] for _, s in STEPS if "setup-python" in s.get("uses", "")} == {"3.11"}


def test_a_checkout_leaves_no_token_behind():
    checkouts = [step for _, step in STEPS if "actions/checkout" in step.get("uses", "")]
    assert len(checkouts) == 3
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_nothing_that_a_pull_request_names_is_pasted_into_a_shell():
    assert not [step["run"] for _, step in STEPS if "${{" in step.get("run", "")]


def test_every_target_that_is_called_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = [line.split()[1] for _, step in STEPS for line in step.get("run", "").splitlines() if "make " in line]
    assert set(called) == {"check", "test", "smoke", "fresh", "pr-report", "gate"}
    assert set(called) <= targets


def test_what_lands_is_what_the_workflow_checks():
    landing = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1].split()
    assert [f"make {target}" for target in landing[1:]] == [
        step["run"] for step in JOBS["ci.yml:ci"]["steps"] if "run" in step
    ]


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
