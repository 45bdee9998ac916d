"""studies/rho.py and what it is made of: the grid, the queue, the statistics, what is written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import experiments
import figure
import grid
import report
import rho
import teachers
from factories import make_episodes, write_logs
from following import ATTEMPTS, Follower
from intervals import change
from results import Measured, by_key, lines
from test_pipeline import ENVIRONMENT, Copy, tiny_params

ROOT = Path(__file__).resolve().parent.parent


def runs_of(rhos=(0.0, 0.5), sizes=(8, 0), seeds=2, values=None, **extra):
    values = values or tiny_params()
    arms = grid.arms(rhos, None, values["train"])
    return grid.grid(arms, sizes, seeds, values, extra, "code")


# The grid


def test_arms_of_a_seed_and_a_size_share_their_dreams_and_the_control_has_others():
    runs = runs_of(rhos=(0.0, 0.3, 0.8))
    assert len(runs) == len({run.name for run in runs}) == 2 * 2 * 4
    by_rho = {
        (run.size, run.seed): {r.dreams for r in runs if (r.size, r.seed) == (run.size, run.seed)} for run in runs
    }
    assert {len(shared) for shared in by_rho.values()} == {2}
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
    assert not [run for run in runs_of() if run.arm.name == "default"]


def test_another_param_or_other_code_gives_another_name():
    values = tiny_params()
    arms = grid.arms([0.0], None, values["train"])
    names = [
        grid.grid(arms, [0], 1, values, extra, code)[0].name
        for extra, code in (({}, "a"), ({"train.steps": "13"}, "a"), ({}, "b"))
    ]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("train.stepps", "3", "params.yaml has no train.stepps"),
        ("trane.steps", "3", "params.yaml has no trane.steps"),
        ("train.rho", "[", "not a value that YAML can read"),
    ],
)
def test_an_override_that_params_yaml_cannot_hold_is_named(key, text, said):
    with pytest.raises(ValueError, match=said):
        grid.with_overrides(tiny_params(), {key: text})


def test_a_param_out_of_range_stops_the_study_before_any_run():
    with pytest.raises(ValueError, match=r"train\.steps: found 0"):
        runs_of(**{"train.steps": "0"})


# The queue


class Queue:
    """In the place of DVC's: finishes one task a look, unless told that it fails."""

    def __init__(self, runs, monkeypatch, logs=None, workers=1):
        self.runs, self.logs, self.workers = runs, logs or {}, workers
        self.tasks, self.done, self.put_order, self.killed = {}, {}, [], []
        for name in ("status", "finished", "put", "start", "remove", "kill", "log"):
            monkeypatch.setattr(experiments, name, getattr(self, name))

    def status(self):
        for name, state in self.tasks.items():
            if state == "Queued" and self.workers:
                fails = bool(self.logs.get(name))
                self.tasks[name] = "Failed" if fails else "Success"
                if not fails:
                    self.done[name] = "commit"
                break
        return experiments.Status(dict(self.tasks), self.workers)

    def finished(self, runs):
        return {run.name: "commit" for run in runs if run.name in self.done}

    def put(self, run):
        assert run.name not in self.tasks
        self.put_order.append(run)
        self.tasks[run.name] = "Queued"

    def start(self, jobs):
        self.workers = jobs

    def remove(self, name):
        del self.tasks[name]

    def kill(self, name):
        self.killed.append(name)
        self.tasks[name] = "Failed"
        self.workers = 1

    def log(self, name):
        return self.logs[name].pop(0) if self.logs.get(name) else ""


def follow(runs, jobs=2):
    follower = Follower(runs, jobs, 0.0)
    return follower.follow(), follower.failed


def test_one_run_makes_the_dreams_before_others_need_them(monkeypatch):
    runs = runs_of(rhos=(0.0, 0.3, 0.5))
    queue = Queue(runs, monkeypatch)
    finished = []
    put = queue.put

    def watched(run):
        first = [other.dreams for other in queue.put_order].count(run.dreams) == 0
        finished.append(first or any(o.dreams == run.dreams and o.name in queue.done for o in runs))
        put(run)

    monkeypatch.setattr(experiments, "put", watched)
    done, failed = follow(runs)
    assert set(done) == {run.name for run in runs}
    assert not failed
    assert all(finished)


def test_what_is_there_or_on_its_way_is_not_queued_again(monkeypatch):
    runs = runs_of()
    queue = Queue(runs, monkeypatch)
    queue.done = {run.name: "commit" for run in runs[:5]}
    queue.tasks = {runs[5].name: "Queued", runs[6].name: "Failed", runs[7].name: "Success"}
    done, failed = follow(runs)
    assert set(done) == {run.name for run in runs}
    assert not failed
    assert {run.name for run in queue.put_order} == {run.name for run in runs[6:]}


def test_a_run_that_fails_before_its_stages_is_tried_again_and_not_for_ever(monkeypatch):
    runs = runs_of(sizes=(8,), seeds=1)
    once, always = runs[1].name, runs[2].name
    queue = Queue(runs, monkeypatch, {once: ["no stage began"], always: ["no stage began"] * 9})
    done, failed = follow(runs)
    assert set(done) == {runs[0].name, once}
    assert set(failed) == {always}
    assert [run.name for run in queue.put_order].count(always) == ATTEMPTS


def test_a_stage_that_fails_is_final_and_its_reason_is_told(monkeypatch, capsys):
    runs = runs_of(sizes=(8,), seeds=1)
    queue = Queue(
        runs, monkeypatch, {runs[0].name: ["error: train.lr is silly\nERROR: failed to reproduce 'train'"] * 2}
    )
    done, failed = follow(runs)
    assert len(done) == 2
    assert failed == {runs[0].name: "error: train.lr is silly"}
    assert [run.name for run in queue.put_order].count(runs[0].name) == 1
    assert "train.lr is silly" in capsys.readouterr().out


def test_a_task_whose_worker_died_is_given_up_and_run_again(monkeypatch):
    runs = runs_of(sizes=(8,), seeds=1)
    queue = Queue(runs, monkeypatch, workers=0)
    queue.done = {run.name: "commit" for run in runs[1:]}
    queue.tasks = {runs[0].name: "Running"}
    done, _ = follow(runs)
    assert set(done) == {run.name for run in runs}
    assert queue.killed == [runs[0].name]


# The statistics


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, shape)


def test_a_constant_ratio_is_found_exactly():
    base = noise(5, 40)
    found = change(0.9 * base, base, np.full(40, 10.0))
    np.testing.assert_allclose([found.value, found.low, found.high], -0.1, atol=1e-12)


def test_no_effect_is_within_the_interval_nineteen_times_of_twenty():
    held = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        episodes = rng.uniform(0.5, 2, 40)
        one, other = (episodes * rng.lognormal(0, 0.05, (5, 1)) * rng.lognormal(0, 0.1, (5, 40)) for _ in range(2))
        found = change(one, other, np.ones(40))
        held += found.low <= 0 <= found.high
    assert held >= 85  # five seeds are few: a bootstrap over them is a little too sure


def test_pairing_by_seed_makes_the_interval_narrow_and_mixing_seeds_up_makes_it_wide():
    base = noise(1, 40) * np.linspace(0.5, 1.5, 5)[:, None]
    paired, mixed = (change(arm, base, np.ones(40)) for arm in (0.9 * base, 0.9 * base[::-1]))
    assert paired.value == pytest.approx(mixed.value)
    assert mixed.high - mixed.low > 0.1 > paired.high - paired.low


def test_the_same_numbers_give_the_same_interval():
    one, base = noise(3, 9, seed=1), noise(3, 9)
    assert change(one, base, np.ones(9)) == change(one, base, np.ones(9))


def rows_of(error, windows=(10, 30), **more):
    """episodes.csv with two test episodes and a val episode."""
    found = [("test", "e0", windows[0], error), ("test", "e1", windows[1], 2 * error), ("val", "e2", 5, 3 * error)]
    return [
        {
            "split": split,
            "agent_id": "a",
            "episode": name,
            "windows": str(n),
            "model": repr(value),
            "linear": "9",
            "persistence": "99",
        }
        for split, name, n, value in found
    ]


def measured(errors=None, seeds=2, sizes=(8, 0)):
    errors = errors or {"rho 0": 0.4, "rho 0.5": 0.3, "repeat": 0.5}
    return [
        Measured(run, rows_of(errors[run.arm.name] * (1 + run.seed)), 0.7, 0.6)
        for run in runs_of(seeds=seeds, sizes=sizes)
    ]


def test_errors_are_weighted_by_windows_and_pieces_of_an_episode_are_one():
    row = {"split": "test", "agent_id": "a", "episode": "e", "windows": "10", "model": "1.0"}
    assert by_key([row, row | {"windows": "30", "model": "3.0"}]) == {("test", "a", "e"): (40, 2.5)}
    found = lines(measured(seeds=1, sizes=(0,)), {})
    assert found[0].test == pytest.approx((10 * 0.4 + 30 * 0.8) / 40)
    assert found[0].val == pytest.approx(1.2)


def test_sizes_go_from_few_to_all_and_arms_are_compared_with_rho_0_and_the_control():
    given = measured()
    teacher = {each.run.dreams: rows_of(0.2 * (1 + each.run.seed)) for each in given if each.run.arm.name == "rho 0"}
    found = lines(given, teacher)
    assert [(line.size, line.arm) for line in found] == [
        (size, arm) for size in (8, 0) for arm in ("rho 0", "rho 0.5", "repeat", "teacher")
    ]
    none, half, repeat, teacher = found[:4]
    assert none.test_change is None
    assert half.test_change.value == pytest.approx(-0.25)
    assert half.against_repeat.value == pytest.approx(-0.4)
    assert repeat.against_repeat is None
    assert teacher.test_change.value == pytest.approx(-0.5)
    assert {line.seeds for line in found} == {2}


def test_a_run_that_is_missing_leaves_its_seed_out_of_the_pairs():
    given = [each for each in measured() if (each.run.arm.name, each.run.seed) != ("rho 0.5", 1)]
    half = lines(given, {})[1]
    assert half.seeds == 1
    assert half.test_change.value == pytest.approx(-0.25)


def test_runs_on_different_episodes_are_not_compared():
    given = measured()
    given[0].rows[0]["episode"] = "another"
    with pytest.raises(ValueError, match="different test episodes"):
        lines(given, {})


# What is written


def test_the_table_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "results.md"
    path.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    report.write_between_markers(path, report.markdown(lines(measured(), {}), "Logs", ["a note"]))
    text = path.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n\n**Logs**\n\n| train episodes | arm |")
    assert text.endswith(f"- a note\n\n{report.END}\n\nafter\n")
    assert "| 8 | rho 0.5 | 2 | 1.3500 | 0.7875 | 0.7000 | -25.0 % (-25.0 to -25.0) |" in text
    assert "old" not in text


def test_a_file_without_markers_gets_them_at_its_end(tmp_path):
    for before in (None, "# Notes\n"):
        path = tmp_path / f"{before is None}.md"
        if before:
            path.write_text(before)
        report.write_between_markers(path, "new")
        assert path.read_text() == (f"{before}\n" if before else "") + f"{report.BEGIN}\n\nnew\n\n{report.END}\n"


def test_the_figure_has_the_same_bytes_again_and_its_numbers_beside_it(tmp_path):
    found = lines(measured(), {})
    for name in ("one", "other"):
        figure.draw(tmp_path / f"{name}.png", found, "Logs")
        report.write_lines(tmp_path / f"{name}.csv", found)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    header, *rows = (tmp_path / "one.csv").read_text().splitlines()
    assert header.startswith("train_episodes,arm,rho,seeds,val,test,rare,val_change")
    assert len(rows) == len(found)


def test_the_teachers_error_is_fitted_once_and_then_read(tmp_path, monkeypatch):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 20, agents=3))
    runs = runs_of(sizes=(0,), seeds=1)
    arguments = (runs, logs, tmp_path / "cache", "code", 1)
    first = teachers.teachers_errors(*arguments)
    monkeypatch.setattr(teachers, "measure", None)
    assert teachers.teachers_errors(*arguments) == first
    (rows,) = first.values()
    assert {row["split"] for row in rows} == {"val", "test"}
    assert all(float(row["model"]) > 0 for row in rows)


# The whole, under DVC


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Copy:
    return Copy(tmp_path_factory.mktemp("study") / "project")


def study(*more):
    options = ["--rhos", "0,0.5", "--sizes", "0", "--seeds", "1", "--jobs", "1", "--poll", "1", "--out", "found.md"]
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
