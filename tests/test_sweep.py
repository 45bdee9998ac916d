"""The command sweep: its grid and table, and sweeps under DVC in a project whose stage takes no time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from copies import ENVIRONMENT, ROOT, Workplace, tiny_params
from scratch import Scratch
from worldmodel.sweeps import experiments, runner, search, trial
from worldmodel.sweeps.grid import arm_of, axes, sweep_runs
from worldmodel.sweeps.results import by_episode, markdown, ranked
from worldmodel.sweeps.runner import source_of, take_results, waves
from worldmodel.sweeps.search import Range, Search, axis_of
from worldmodel.sweeps.trial import STAGE_FAILED, Outcome, Source, make

# Waits in the project's folder, which DVC_ROOT names, while a file `hold` is there.
STAGE = """
import json, os, pathlib, sys, time, yaml
train, here = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"], pathlib.Path(os.environ["DVC_ROOT"])
if train["rho"] == 0.9:
    sys.exit("error: rho is 0.9 | too much")
(here / "runs").mkdir(exist_ok=True)
with (here / "runs/begun").open("a") as file:
    file.write(f"{train['rho']} {train['seed']}\\n")
while (here / "runs/hold").exists():
    time.sleep(0.05)
pathlib.Path("artifacts/plots").mkdir(parents=True, exist_ok=True)
pathlib.Path("artifacts/train").write_text(str(train["rho"]))
pathlib.Path("artifacts/metrics.json").write_text(json.dumps({"mse": {"mean": train["rho"]}}))
rows = [f"{split},a,e{n},10,{1 + train['rho'] + 0.1 * train['seed']}" for n, split in enumerate(("test", "val", "val"))]
pathlib.Path("artifacts/plots/episodes.csv").write_text("\\n".join(["split,agent_id,episode,windows,model", *rows]))
"""


def runs_of(*combinations, values=None, code="code"):
    return sweep_runs(axes(combinations), values or tiny_params(), code)


def rows_of(error):
    """episodes.csv with two test episodes and a val episode."""
    episodes = [("test", "e0", "10", error), ("test", "e1", "30", 2 * error), ("val", "e2", "5", 3 * error)]
    header = ("split", "episode", "windows", "model", "agent_id")
    return [dict(zip(header, (*each[:3], repr(each[3]), "a"), strict=True)) for each in episodes]


def test_a_sweep_is_every_combination_with_a_name_that_params_and_code_decide():
    runs = runs_of("train.rho=0,0.3", "train.encoder=gru,mlp", "train.seed=4,5")
    assert len({run.name for run in runs}) == 8
    assert {run.overrides["train.seed"] for run in runs[:4]} == {"4"}
    assert runs[0].values["train"]["seed"] == 4
    assert [arm_of(run) for run in runs[:2]] == ["train.rho=0 train.encoder=gru", "train.rho=0 train.encoder=mlp"]
    assert {run.name for run in runs_of("train.seed=5", "train.encoder=mlp", "train.rho=0.3")} <= {r.name for r in runs}
    assert runs_of("train.rho=0", code="other code")[0].name != runs_of("train.rho=0")[0].name


def test_a_mistake_stops_it_before_any_run():
    for combinations, message in (
        (["train.rho"], "'train.rho': expected key=value,value"),
        (["train.rho=0,,1"], "expected key=value,value"),
        (["train.rho=0,0"], "train.rho has a value twice"),
        (["train.rho=0", "train.rho=1"], "train.rho has a value twice"),
        (["prepare.seed=1,2"], "prepare.seed decides what errors are measured on"),
        (["train.roh=1"], "params.yaml has no train.roh"),
        (["trane.rho=1"], "params.yaml has no trane.rho"),
        (["train.rho=["], r"train\.rho=\[: not YAML: "),
        (["train.rho=2"], r"train\.rho: found 2"),
    ):
        with pytest.raises(ValueError, match=message):
            runs_of(*combinations)


def test_the_table_has_means_over_seeds_best_first_and_a_row_for_each_failure():
    runs = runs_of("train.rho=0,0.3,0.5", "train.seed=0,1")
    errors = {"0": 0.4, "0.3": 0.2, "0.5": 0.35}
    rows = {
        run.name: rows_of(errors[run.overrides["train.rho"]] * (1 + int(run.overrides["train.seed"])))
        for run in runs[:-1]
    }
    lines = ranked(runs, rows)
    assert [line.arm for line in lines] == ["train.rho=0.3", "train.rho=0.5", "train.rho=0"]
    best, half, none = lines
    assert best.errors == pytest.approx((0.6, 1.2))
    assert best.val == pytest.approx(0.9)
    assert best.interval == pytest.approx((0.6, 1.2))
    assert best.spread == pytest.approx(0.6 / 2**0.5)
    assert best.test == pytest.approx(1.5 * (10 * 0.2 + 30 * 0.4) / 40)
    assert best.against is None
    assert half.spread is None
    assert half.against.value == pytest.approx(0.75)  # paired: by the one seed that both have
    assert none.against.value == pytest.approx(1.0)
    text = markdown(lines, runs, {runs[-1].name: "no\nmemory"})
    assert "| 1 | train.rho=0.3 | 2 of 2 | 0.9000 | 0.4243 |" in text
    assert "| 2 | train.rho=0.5 | 1 of 2 | 1.0500 | - |" in text
    assert "| failed | train.rho=0.5 train.seed=1 | no memory |" in text
    assert "6 runs: 5 finished, 1 failed, 0 not run yet." in text


def test_pieces_of_an_episode_are_one_and_runs_on_other_episodes_are_not_compared():
    row = {"split": "val", "agent_id": "a", "episode": "e", "windows": "10", "model": "1.0"}
    assert by_episode([row, row | {"windows": "30", "model": "3.0"}]) == {("val", "a", "e"): (40, 2.5)}
    one, other = runs_of("train.rho=0,0.3")
    with pytest.raises(ValueError, match="different val episodes"):
        ranked([one, other], {one.name: [row], other.name: [row | {"episode": "f"}]})


def test_one_run_makes_the_dreams_before_others_need_them():
    runs = runs_of("train.rho=0,0.3,0.5", "dreams.seed=1,2")  # by seed: 1, 1, 1, 2, 2, 2
    assert list(waves(runs, {runs[0].dreams})) == [runs[:4], runs[4:]]
    assert list(waves(runs, ())) == [[runs[0], runs[3]], [*runs[1:3], *runs[4:]]]
    assert list(waves(runs[:1], ())) == [runs[:1]]
    assert list(waves([], ())) == []


def source(**fields):
    """Of a machine that shares nothing with the project."""
    texts = dict.fromkeys(("shallow", "head", "below", "cache", "settings"), "")
    nowhere = {"project": Path("/nowhere"), "mark": Path("/nowhere/mark")}
    return Source(**{"commits": b"", "remote": "storage", "variables": {}, "jobs": 1} | texts | nowhere | fields)


def test_a_run_that_dies_before_a_stage_fails_is_tried_again_and_a_failed_stage_is_final(monkeypatch):
    endings = iter(["locked", "", "locked", "locked", "locked", f"lr is silly {STAGE_FAILED}", ""])

    def attempt(*_):
        why = next(endings)
        return Outcome(b"" if why else b"it", why, why)

    monkeypatch.setattr(trial, "_attempt", attempt)
    made = [make(source(), "name", {}) for _ in range(3)]
    assert made == [
        Outcome(b"it"),
        Outcome(b"", "locked", "locked"),
        Outcome(b"", *[f"lr is silly {STAGE_FAILED}"] * 2),
    ]
    assert list(endings) == [""]


def test_what_nobody_could_have_is_not_made():
    with pytest.raises(ValueError, match="does not see /nowhere, and there is no default DVC remote to bring results"):
        make(source(remote=""), "name", {})


def searched(folder, monkeypatch, jobs=1, until=99):
    """A search whose experiments take no time, and fail where rho is over 0.9; interrupted in its batch `until`."""
    there, batches = {}, []

    class Instantly:
        def __init__(self, runs, jobs):
            self.runs, self.failed = runs, {}

        def run(self):
            batches.append(self.runs)
            if len(batches) > until:
                raise KeyboardInterrupt
            for run in self.runs:
                error = (float(run.overrides["train.rho"]) - 0.3) ** 2
                if error < 0.36:
                    there[run.name] = rows_of(error)
                else:
                    self.failed[run.name] = "too much"
            return there

    monkeypatch.setattr(search, "Runner", Instantly)
    monkeypatch.setattr(experiments, "episodes_of", lambda rows: rows)
    values = tiny_params()
    asked = {"train.rho": ["0..1"], "train.lr": ["0.0003..0.01"], "train.steps": ["2..30"], "train.seed": ["0", "1"]}
    asked |= {"train.encoder": ["mlp", "gru"]}
    found = {key: axis_of(key, texts, values) for key, texts in asked.items()}
    made = Search(found, values, "code", folder, 16, 4, jobs)
    with suppress(KeyboardInterrupt):
        made.run()
    return made


def test_a_search_learns_goes_on_where_it_was_ended_and_tries_the_same_whoever_works(tmp_path, monkeypatch):
    whole = searched(tmp_path / "whole", monkeypatch)
    assert len(whole.runs) == 32
    assert {run.overrides["train.encoder"] for run in whole.runs} == {"mlp", "gru"}
    tried = [{key: run.values["train"][key] for key in ("rho", "lr", "steps", "seed")} for run in whole.runs]
    assert [each["seed"] for each in tried] == [0, 1] * 16
    assert all(0 <= each["rho"] <= 1 and 0.0003 <= each["lr"] <= 0.01 and 2 <= each["steps"] <= 30 for each in tried)
    assert {type(each["steps"]) for each in tried} == {int}
    assert sum(each["lr"] < 0.0018 for each in tried) > 7  # half of the range's logarithm
    rho = [each["rho"] for each in tried]
    assert sum(abs(each - 0.3) for each in rho[24:]) < sum(abs(each - 0.3) for each in rho[:8])
    assert any(name for name in whole.failed)
    assert len(searched(tmp_path / "ended", monkeypatch, until=2).runs) == 24
    again = searched(tmp_path / "ended", monkeypatch, jobs=7)
    assert [run.name for run in again.runs] == [run.name for run in whole.runs]


def test_a_range_is_two_numbers_that_the_param_may_have():
    values = tiny_params()
    assert axis_of("train.lr", ["1e-4..1e-2"], values) == Range(1e-4, 1e-2, whole=False)
    assert axis_of("train.steps", ["2..9"], values) == Range(2, 9, whole=True)
    assert axis_of("train.rho", ["0..1"], values) == Range(0, 1, whole=False)
    assert [Range(*ends, whole=False).log for ends in ((0, 1), (0.1, 0.9), (0.1, 1.0), (-1, 10))] == [0, 0, 1, 0]
    assert axis_of("train.rho", ["0", "1"], values) == ["0", "1"]
    for key, text, message in (
        ("train.rho", "1..0", "expected two numbers, the lower one first"),
        ("train.seed", "0..9", "of no seed"),
        ("train.rho", "0..2", "train.rho: found 2"),
        ("train.roh", "0..1", "params.yaml has no train.roh"),
    ):
        with pytest.raises(ValueError, match=message):
            axis_of(key, [text], values)


@pytest.fixture
def project(tmp_path: Path) -> Scratch:
    return quick_project(tmp_path / "project")


def quick_project(top: Path, below: str = "") -> Scratch:
    made = Scratch(top, below)
    made.write("src/stage.py", STAGE)
    made.write("params.yaml", yaml.safe_dump(tiny_params()))
    made.write(".gitignore", "/runs/\n")
    (made.folder / "runs").mkdir()
    plots = [{"artifacts/plots/episodes.csv": {"cache": False}}]
    stage = {"cmd": "python src/stage.py", "deps": ["src/stage.py"], "params": ["train.rho", "train.seed"]}
    stage |= {"outs": ["artifacts/train"], "metrics": [{"artifacts/metrics.json": {"cache": False}}], "plots": plots}
    made.write("dvc.yaml", yaml.safe_dump({"stages": {"validate": stage}}))
    made.commit()
    return made


def sweep(project: Workplace, *combinations: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "worldmodel", "sweep", *combinations, "--out", "runs/found"]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=project.folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def commits_of(project: Workplace) -> dict[str, str]:
    lines = project.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    return dict(line.split() for line in lines)


def begun(project: Scratch) -> list[str]:
    path = project.folder / "runs/begun"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.dvc
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 1), (signal.SIGKILL, 2)], ids=["ctrl-c", "kill"])
def test_a_sweep_that_is_ended_leaves_edits_alone_and_goes_on_when_called_again(project, number, jobs):
    count = 1 + jobs
    asked = ("train.rho=0", f"train.seed={','.join(map(str, range(count)))}", "--jobs", str(jobs))
    head, branch = project.run("git", "rev-parse", "HEAD"), project.run("git", "symbolic-ref", "HEAD")
    first = sweep(project, *asked)
    until(lambda: commits_of(project), first)
    (project.folder / "runs/hold").touch()
    until(lambda: len(begun(project)) == count, first)
    edited = project.read("params.yaml") + "# an edit\n"
    project.write("params.yaml", edited)
    os.kill(first.pid, number)
    out, _ = first.communicate()
    before = commits_of(project)
    if number == signal.SIGINT:
        assert first.returncode == 130
        assert "2 runs: 1 finished, 0 failed, 1 not run yet." in out
    refused = sweep(project, *asked)
    assert refused.communicate()[1] == "error: not as committed: params.yaml; commit or restore them first\n"
    assert refused.returncode == 1
    assert project.read("params.yaml") == edited
    assert (project.run("git", "rev-parse", "HEAD"), project.run("git", "symbolic-ref", "HEAD")) == (head, branch)
    assert project.run("git", "status", "--porcelain") == " M params.yaml\n"
    assert project.run("git", "stash", "list") == ""
    project.run("git", "checkout", "params.yaml")
    (project.folder / "runs/hold").unlink()
    out, _ = sweep(project, *asked).communicate()
    assert f"{count} runs: {count} finished, 0 failed, 0 not run yet." in out
    assert before.items() < commits_of(project).items()
    assert len(begun(project)) == count + jobs  # what had ended was not run again
    assert [path.suffix for path in (project.folder / ".dvc/tmp/sweeps").iterdir()] == [".log"] * count


@pytest.mark.dvc
def test_a_machine_with_a_disk_of_its_own_brings_results_back_by_the_remote(tmp_path, monkeypatch):
    project = quick_project(tmp_path / "project", "below the top")
    monkeypatch.chdir(project.folder)
    project.run("dvc", "remote", "add", "--local", "--default", "storage", str(tmp_path / "remote"))
    monkeypatch.setattr(runner, "on_cluster", lambda: True)
    (run,) = sweep_runs(axes(["train.rho=0.25"]), experiments.committed_params(), experiments.committed_code())
    Path(".dvc/tmp/sweeps").mkdir(parents=True)
    (tmp_path / "mark").mkdir()
    away = replace(source_of(tmp_path / "mark"), mark=tmp_path / "not seen")
    made = make(away, run.name, run.overrides)
    assert made.experiment, made
    assert experiments.finished([run]) == {}
    Path(".dvc/tmp/sweeps/it.bundle").write_bytes(made.experiment)
    take_results()
    assert list(experiments.finished([run])) == [run.name]
    project.attempt("dvc", "exp", "apply", run.name)  # which lacks the outs, and says so
    project.run("dvc", "pull")
    assert project.read("artifacts/train") == "0.25"


@pytest.mark.dvc
def test_a_sweep_reports_means_and_failures_and_dvc_lists_its_runs(project):
    done = sweep(project, "train.rho=0,0.9", "train.seed=0,1", "--jobs", "2")
    out, err = done.communicate()
    assert done.returncode == 1, err
    assert "| 1 | train.rho=0 | 2 of 2 | 1.0500 | 0.0707 | 1.0000 to 1.1000 | - | 1.0500 |" in out
    for seed in (0, 1):
        assert f"| failed | train.rho=0.9 train.seed={seed} | `error: rho is 0.9 \\| too much` |" in out
    assert "4 runs: 2 finished, 2 failed, 0 not run yet." in out
    assert project.read("runs/found/table.md") in out
    assert len(project.read("runs/found/runs.csv").splitlines()) == 5
    assert (project.folder / "runs/found/errors.png").read_bytes().startswith(b"\x89PNG")
    assert project.run("git", "status", "--porcelain") == ""
    listed = project.run("dvc", "exp", "show", "--csv")
    assert all(name.rpartition("/")[2] in listed for name in commits_of(project))


@pytest.mark.slow
def test_runs_of_the_real_pipeline_have_the_bits_of_the_workspace_and_can_be_applied(copy):
    done = sweep(copy, "train.rho=0.5,0.2", "--jobs", "2")
    out, err = done.communicate()
    assert done.returncode == 0, out + err
    same, other = sorted(commits_of(copy).items(), key=lambda each: "0-2" in each[0])
    assert copy.run("git", "show", f"{same[1]}:dvc.lock") == copy.read("dvc.lock")
    copy.run("dvc", "exp", "apply", other[0].rpartition("/")[2])
    assert copy.run("dvc", "status") == "Data and pipelines are up to date.\n"
    assert yaml.safe_load(copy.read("params.yaml"))["train"]["rho"] == 0.2
