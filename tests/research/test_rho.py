"""The rho study: its runs, its teachers, and one under DVC whose runs have the template's results, scaled by rho."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from studies import runs_of

from copies import ENVIRONMENT, ROOT, Copy, tiny_params
from factories import make_episodes, write_logs
from research import rho, teachers

STAGE = """
import csv, json, pathlib, yaml
rho = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]["rho"]
metrics = json.loads(pathlib.Path("real/metrics.json").read_text())
metrics["mse"]["mean"] *= 1 + rho
pathlib.Path("artifacts/metrics.json").write_text(json.dumps(metrics))
with open("real/episodes.csv", newline="") as real, open("artifacts/plots/episodes.csv", "w", newline="") as out:
    rows = list(csv.DictReader(real))
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(row | {"model": float(row["model"]) * (1 + rho)} for row in rows)
"""


def test_arms_of_a_seed_and_a_size_share_their_dreams_and_the_control_has_others():
    runs = runs_of(rhos=(0.0, 0.3, 0.8))
    assert len(runs) == len({run.name for run in runs}) == 2 * 2 * 4
    for size in (8, 0):
        for seed in (0, 1):
            assert len({run.dreams for run in runs if (run.size, run.seed) == (size, seed)}) == 2
    assert len({run.dreams for run in runs}) == 2 * 4


def test_a_seed_is_added_to_both_seeds_and_a_constant_rho_is_its_own_start():
    run = next(run for run in runs_of() if run.arm.name == "rho 0.5" and run.seed == 1 and run.size == 8)
    assert run.values["train"]["seed"] == 1
    assert run.values["dreams"]["seed"] == 8
    assert run.values["prepare"]["train_episodes"] == 8
    assert {run.values["train"][key] for key in ("rho", "rho_start")} == {0.5}


def test_a_schedule_that_is_not_constant_is_an_arm_of_its_own():
    values = tiny_params()
    values["train"] |= {"rho_schedule": "linear", "rho": 0.1, "rho_start": 0.7}
    (default, *_) = [run for run in runs_of(values=values) if run.arm.name == "default"]
    assert default.values["train"]["rho_schedule"] == "linear"
    assert default.arm.rho == pytest.approx(0.4)
    (repeat, *_) = [run for run in runs_of(values=values) if run.arm.name == "repeat"]
    assert repeat.values["train"] == default.values["train"]
    assert repeat.arm.rho == default.arm.rho
    assert repeat.values["dreams"]["source"] == "repeat"
    assert not [run for run in runs_of() if run.arm.name == "default"]


def test_the_teachers_error_is_fitted_once_and_then_read(tmp_path, monkeypatch):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 20, agents=3))
    arguments = (runs_of(sizes=(0,), seeds=1), logs, tmp_path / "cache", "code")
    first = teachers.teachers_errors(*arguments)
    monkeypatch.setattr(teachers, "measure", None)
    assert teachers.teachers_errors(*arguments) == first
    (rows,) = first.values()
    assert {row["split"] for row in rows} == {"val", "test"}
    assert all(float(row["model"]) > 0 for row in rows)


@pytest.fixture
def quick(template: Copy, tmp_path: Path) -> Copy:
    """A project of one stage, which takes no time."""
    made = Copy.made(tmp_path / "project")
    for name in ("metrics.json", "plots/episodes.csv"):
        made.write(f"real/{Path(name).name}", template.read(f"artifacts/{name}"))
    made.write("src/stage.py", STAGE)
    stage = {"cmd": "mkdir -p artifacts/plots && python src/stage.py", "deps": ["src/stage.py", "real"]}
    stage |= {"params": ["train.rho", "dreams.source"], "metrics": [{"artifacts/metrics.json": {"cache": False}}]}
    stage["plots"] = [{"artifacts/plots/episodes.csv": {"cache": False}}]
    made.write("dvc.yaml", yaml.safe_dump({"stages": {"validate": stage}}))
    made.commit()
    return made


@pytest.mark.slow
def test_a_study_writes_table_figure_and_numbers_and_runs_once(quick: Copy):
    project = quick
    done = study(project)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 runs finished" in done.stdout
    commits = commits_of(project)
    assert len(commits) == 3
    assert "3 runs, 3 of them finished" in study(project, "--dry-run").stdout
    (without,) = [commit for ref, commit in commits.items() if "/rho-0-of-all" in ref]
    error = json.loads(project.run("git", "show", f"{without}:artifacts/metrics.json"))["mse"]["mean"]
    rows = {line.split(",")[1]: line.split(",") for line in project.read("found.csv").splitlines()}
    assert float(rows["rho 0"][5]) == pytest.approx(error, rel=1e-4)
    assert float(rows["rho 0.5"][5]) == pytest.approx(1.5 * error, rel=1e-4)
    assert "| all | teacher | 1 |" in project.read("found.md")
    assert (project.folder / "found.png").stat().st_size > 10_000
    project.write("params.yaml", project.read("params.yaml") + "# edited\n")
    refused = study(project)
    assert refused.stderr == "error: not as committed: params.yaml; commit or restore them first\n"
    assert project.read("params.yaml").endswith("# edited\n")


def study(project: Copy, *more: str) -> subprocess.CompletedProcess[str]:
    options = "--rhos 0,0.5 --sizes 0 --seeds 1 --jobs 1 --out found.md --figure found.png"
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    command = [sys.executable, "-m", "research.rho", *options.split(), *more]
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)


def commits_of(project: Copy) -> dict[str, str]:
    lines = project.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/*/*/*").splitlines()
    return dict(line.split() for line in lines)


def test_rho_0_has_to_be_there():
    with pytest.raises(ValueError, match=r"--rhos 0\.3,0\.5: add 0, which all others are compared with"):
        rho.command.main(["--rhos", "0.3,0.5", "--dry-run"], standalone_mode=False)
