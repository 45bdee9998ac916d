"""studies/sweep.py: its grid and table, and a sweep under DVC in a project whose stage takes no time."""

import os
import signal
import subprocess
import sys

import pytest
import yaml

from copies import ENVIRONMENT, ROOT, tiny_params
from research_factories import rows_of
from scratch import Scratch
from worldmodel.sweeps import experiments
from worldmodel.sweeps.grid import arm_of, axes, sweep_runs
from worldmodel.sweeps.ranking import markdown, ranked

STAGE = """
import json, pathlib, sys, yaml
train = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]
if train["rho"] == 0.9:
    sys.exit("error: rho is 0.9 | too much")
pathlib.Path("artifacts/plots").mkdir(parents=True, exist_ok=True)
pathlib.Path("artifacts/metrics.json").write_text(json.dumps({"mse": {"mean": train["rho"]}}))
rows = [f"{split},a,e{n},10,{1 + train['rho'] + 0.1 * train['seed']}" for n, split in enumerate(("test", "val", "val"))]
pathlib.Path("artifacts/plots/episodes.csv").write_text("\\n".join(["split,agent_id,episode,windows,model", *rows]))
"""


def runs_of(*given):
    return sweep_runs(axes(given), tiny_params(), "code")


def test_a_sweep_is_every_combination_with_a_name_that_params_and_code_decide():
    runs = runs_of("train.rho=0,0.3", "train.encoder=gru,mlp", "train.seed=4,5")
    assert len({run.name for run in runs}) == 8
    assert {run.overrides["train.seed"] for run in runs[:4]} == {"4"}
    assert runs[0].values["train"]["seed"] == 4
    assert [arm_of(run) for run in runs[:2]] == ["train.rho=0 train.encoder=gru", "train.rho=0 train.encoder=mlp"]
    assert {run.name for run in runs_of("train.seed=5", "train.encoder=mlp", "train.rho=0.3")} <= {r.name for r in runs}
    other = sweep_runs(axes(["train.rho=0"]), tiny_params(), "other code")
    assert other[0].name != runs_of("train.rho=0")[0].name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["train.rho"], "'train.rho': expected key=value,value"),
        (["train.rho=0,,1"], "expected key=value,value"),
        (["train.rho=0,0"], "train.rho has a value twice"),
        (["train.rho=0", "train.rho=1"], "train.rho has a value twice"),
        (["prepare.seed=1,2"], "prepare.seed decides what errors are measured on"),
        (["train.roh=1"], "params.yaml has no train.roh"),
        (["train.rho=2"], r"train\.rho: found 2"),
    ],
)
def test_a_mistake_stops_it_before_any_run(given, said):
    with pytest.raises(ValueError, match=said):
        runs_of(*given)


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
    assert best.val.value == pytest.approx(0.9)
    assert best.val.low <= 0.6 + 1e-9
    assert best.val.high >= 1.2 - 1e-9
    assert best.spread == pytest.approx(0.6 / 2**0.5)
    assert best.test == pytest.approx(1.5 * (10 * 0.2 + 30 * 0.4) / 40)
    assert best.against is None
    assert half.spread is None
    assert half.against.value == pytest.approx(0.75)  # paired: by the one seed that both have
    assert none.against.value == pytest.approx(1.0)
    text = markdown(lines, runs, dict.fromkeys(rows, "commit"), {runs[-1].name: "no\nmemory"})
    assert "| 1 | train.rho=0.3 | 2 of 2 | 0.9000 | 0.4243 |" in text
    assert "| 2 | train.rho=0.5 | 1 of 2 | 1.0500 | - |" in text
    assert "| failed | train.rho=0.5 train.seed=1 | no memory |" in text
    assert "6 runs: 5 finished, 1 failed, 0 not run yet." in text


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Scratch:
    made = Scratch(tmp_path_factory.mktemp("sweep") / "project")
    made.write("src/stage.py", STAGE)
    made.write("params.yaml", yaml.safe_dump(tiny_params()))
    made.write(".gitignore", "/runs/\n")
    plots = [{"artifacts/plots/episodes.csv": {"cache": False}}]
    stage = {"cmd": "python src/stage.py", "deps": ["src/stage.py"], "params": ["train.rho", "train.seed"]}
    stage |= {"metrics": [{"artifacts/metrics.json": {"cache": False}}], "plots": plots}
    made.write("dvc.yaml", yaml.safe_dump({"stages": {"validate": stage}}))
    made.commit()
    return made


def sweep(*more):
    asked = ["train.rho=0,0.9", "train.seed=0,1", "--jobs", "1", "--poll", "1", "--out", "runs/found"]
    return [sys.executable, str(ROOT / "studies" / "sweep.py"), *asked, *more]


def commits_of(project):
    lines = project.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    return dict(line.split() for line in lines if "/sweep-" in line)


def test_a_sweep_goes_on_after_ctrl_c_and_tells_of_what_failed(project):
    begun = subprocess.Popen(
        sweep(), cwd=project.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while "1 of 4 runs finished" not in (line := begun.stdout.readline()):
        assert line, "the sweep ended before a run was finished"
    os.killpg(begun.pid, signal.SIGINT)
    said, _ = begun.communicate()
    assert begun.returncode == 130
    assert "call again to go on" in said
    assert "| 1 | train.rho=0 | " in said
    before = commits_of(project)
    assert before
    done = project.call(*sweep())
    assert done.returncode == 1
    assert before.items() <= commits_of(project).items()
    assert "| 1 | train.rho=0 | 2 of 2 | 1.0500 | 0.0707 | 1.0000 to 1.1000 | - | 1.0500 |" in done.stdout
    for seed in (0, 1):
        assert f"| failed | train.rho=0.9 train.seed={seed} | error: rho is 0.9 \\| too much |" in done.stdout
    assert "4 runs: 2 finished, 2 failed, 0 not run yet." in done.stdout
    assert project.read("runs/found/table.md") in done.stdout
    assert len(project.read("runs/found/runs.csv").splitlines()) == 5
    assert (project.folder / "runs/found/errors.png").read_bytes().startswith(b"\x89PNG")
    assert "Running" not in project.run("dvc", "queue", "status")
    assert project.run("git", "status", "--porcelain") == ""


def test_workers_share_the_processors(monkeypatch):
    seen = {}

    def called(command, **more):
        seen.update(more["env"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    experiments.start(3)
    assert {seen[name] for name in experiments.THREADS} == {"2"}
