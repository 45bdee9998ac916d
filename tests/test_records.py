import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from worldmodel.cli import runs as list_runs
from worldmodel.core import run_records as records

ABOUT = {"run_id": "0123456789ab", "stage": "train"}


def fail(folder, error):
    with records.attempt(folder, ABOUT):
        raise error


def attempts(folder):
    return records.read(folder)["attempts"]


def test_a_record_says_when_where_and_by_what(tmp_path):
    with records.attempt(tmp_path / "run", ABOUT):
        (begun,) = attempts(tmp_path / "run")
        assert (begun["end"], begun["outcome"]) == (None, None)
    (done,) = attempts(tmp_path / "run")
    assert done["start"] <= done["end"]
    assert done["outcome"] == "finished"
    assert (done["host"], done["pid"]) == (platform.node(), os.getpid())
    assert f"numpy=={np.__version__}" in done["packages"]
    assert records.read(tmp_path / "run")["stage"] == "train"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("no window\nat all"), "failed: no window"),
        (AssertionError(), "failed: AssertionError"),
        (SystemExit(143), "stopped, exit code 143"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_what_breaks_off_says_how_and_every_attempt_is_kept(tmp_path, error, outcome):
    with pytest.raises(type(error)):
        fail(tmp_path, error)
    with records.attempt(tmp_path, ABOUT):
        pass
    assert [each["outcome"] for each in attempts(tmp_path)] == [outcome, "finished"]


def test_attempts_at_once_are_all_recorded(tmp_path):
    def work(_):
        with records.attempt(tmp_path, ABOUT):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert [each["outcome"] for each in attempts(tmp_path)] == ["finished"] * 16


def test_git_tells_the_revision_and_what_was_changed_besides_results(tmp_path, monkeypatch):
    for folder in ("src", "artifacts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("committed")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "state"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "artifacts/file").write_text("a result")
    monkeypatch.chdir(tmp_path)

    def recorded():
        with records.attempt(tmp_path.with_name("run"), ABOUT):
            pass
        return attempts(tmp_path.with_name("run"))[-1]["git"]

    clean = recorded()
    assert len(clean["revision"]) == 40
    assert clean["changed"] == []
    (tmp_path / "src/file").write_text("edited")
    assert recorded()["changed"] == ["src/file"]


def whole(folder):
    """The text of a record."""
    with records.attempt(folder, ABOUT):
        pass
    return (folder / records.METADATA).read_text()


DAMAGES = {
    "empty": lambda path, text: path.write_text(""),
    "garbage": lambda path, text: path.write_bytes(os.urandom(2000)),
    "torn": lambda path, text: path.write_text(text[: len(text) // 2]),
    "no attempts": lambda path, text: path.write_text('{"run_id": "a", "stage": "train", "attempts": []}'),
    "other types": lambda path, text: path.write_text(text.replace('"start": "2', '"start": "x')),
    "a list": lambda path, text: path.write_text("[1, 2]"),
    "deep": lambda path, text: path.write_text("[" * 10**5),
    "a folder": lambda path, text: path.mkdir(),
    "a pipe": lambda path, text: os.mkfifo(path),
    "a loop": lambda path, text: path.symlink_to(path.name),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_set_aside_with_one_line_and_the_others_are_listed(tmp_path, damage, capsys):
    text = whole(tmp_path / "bad")
    whole(tmp_path / "good")
    path = tmp_path / "bad" / records.METADATA
    path.unlink()
    DAMAGES[damage](path, text)

    list_runs.command.main([str(tmp_path)], standalone_mode=False)
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    if damage != "a loop":  # it leads to no file
        assert said.err.startswith(f"{path}: no record of a run (")
        assert said.err.count("\n") == 1

    whole(tmp_path / "bad")
    assert [each["outcome"] for each in attempts(tmp_path / "bad")] == ["finished"]
    said = capsys.readouterr().err
    (aside,) = (tmp_path / "bad").glob("*.damaged")
    assert said.startswith(f"{path}: no record of a run (")
    assert said.endswith(f"; begun anew, the old one is {aside.name}\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("blocked", ["", "run"])
def test_work_goes_on_where_it_cannot_be_recorded(tmp_path, blocked, capsys):
    (tmp_path / "runs").mkdir()
    place = tmp_path / "runs" / blocked
    if place.is_dir():
        place.rmdir()
    place.write_text("a file where a folder should be")
    done = []
    with records.attempt(tmp_path / "runs" / "run", ABOUT):
        done.append(True)
    assert done
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path}/runs/run: this run is not recorded (")
    assert said.count("\n") == 1


def test_the_table_has_a_line_for_each_run_and_tells_the_killed_from_the_living(tmp_path, capsys):
    list_runs.command.main([str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().out == f"{tmp_path}: nothing ran yet\n"
    with records.attempt(tmp_path / "a", ABOUT):
        list_runs.command.main([str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[1].endswith("running")
    code = f"""
import os, pathlib
from worldmodel.core import run_records
with run_records.attempt(pathlib.Path({str(tmp_path / "b")!r}), {ABOUT}):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    list_runs.command.main([str(tmp_path)], standalone_mode=False)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run-id", "stage", "attempts"]
    assert [line.split()[:3] for line in lines] == [["0123456789ab", "train", "1"]] * 2
    assert {line.split()[-1] for line in lines} == {"finished", "killed"}
