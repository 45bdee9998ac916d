"""The outer edge of every command: one line on stderr and an exit code, whatever went wrong and whoever reads."""

import errno
import os
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

import click
import pytest

from copies import ENVIRONMENT, ROOT
from lines import frame, log
from worldmodel.core.errors import BUG, NOBODY_READS, run

SECRET = "pa55-word-of-mine"
ADDRESS = f"http://user:{SECRET}@host/logs?X-Amz-Signature={SECRET}"


def failing(error):
    @click.command()
    @click.option("--count", type=int)
    @click.option("--logs")
    def command(count, logs):
        raise error

    return command


def told(error, *arguments):
    """Exit code."""
    with pytest.raises(SystemExit) as end:
        run(failing(error), arguments)
    return end.value.code


def test_what_was_wrong_becomes_one_line_and_an_exit_code(capsys):
    for arguments, error, code, line in [
        ([], ValueError("log.jsonl:3: bad"), 1, "error: log.jsonl:3: bad"),
        ([], OSError("log.jsonl:3: bad"), 1, "error: log.jsonl:3: bad"),
        ([], PermissionError(errno.EACCES, "Permission denied", "a/b"), 1, "error: a/b: Permission denied"),
        ([], OSError(errno.ENOSPC, "No space left on device", Path("c")), 1, "error: c: No space left on device"),
        ([], BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "error: a connection broke off"),
        ([], MemoryError("Unable to allocate 7.45 GiB"), 1, "error: out of memory; free some, or lower"),
        ([], RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"), 1, "error: out of memory; free some"),
        ([], RecursionError("maximum recursion depth exceeded"), 1, "error: an input is nested too deeply"),
        ([], BrokenExecutor("abruptly"), 1, "error: a process of this command was ended from outside"),
        ([], ModuleNotFoundError("No module", name="torch.nn"), 1, "error: this command needs torch.nn, which is not"),
        ([], click.FileError("x", "gone"), 1, "error: Could not open file 'x'"),
        ([], KeyboardInterrupt(), 130, "error: interrupted"),
        ([], click.UsageError("--a without --b."), 2, "error: --a without --b."),
        (["--count", "x"], None, 2, "error: Invalid value for '--count': 'x' is not a valid integer."),
    ]:
        assert told(error, *arguments) == code, error
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.strip().startswith(line)
        assert len(said.err.split("\n")) == 2 + isinstance(error, KeyboardInterrupt), (
            error
        )  # a line of its own after ^C


def test_a_mistake_of_ours_is_one_line_and_its_traceback_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    for folder in ("temporary", "runs"):
        for error in (AssertionError(f"broken by {ADDRESS}\nand more"), ModuleNotFoundError("x", name="worldmodel.x")):
            assert told(error, "--logs", ADDRESS) == BUG == 70
            said = capsys.readouterr().err
            assert said.startswith("error: this is a bug in worldmodel ")
            assert f": {type(error).__name__}: " in said
            assert said.count("\n") == 1
            written = Path(said.strip().rpartition("details in ")[2])
            assert written.parent == tmp_path / folder
            assert f"raise error\n{type(error).__name__}" in written.read_text()
            assert SECRET not in said + written.read_text()
        (tmp_path / "dvc.yaml").touch()
    (tmp_path / "runs").rename(tmp_path / "moved")
    (tmp_path / "runs").touch()  # no folder
    (tmp_path / "temporary").rename(tmp_path / "away")
    monkeypatch.setattr("tempfile._candidate_tempdir_list", list)
    monkeypatch.setattr("tempfile.tempdir", None)
    assert told(AssertionError()) == BUG
    assert "its details could not be written anywhere" in capsys.readouterr().err


def test_no_text_of_others_drives_the_terminal_breaks_the_line_or_opens_a_door(capsys):
    name = "log\x1b[2J\n::error::x\u202e"
    assert told(ValueError(f"{name}: no such folder; {ADDRESS} and {SECRET}"), f"--logs={name}", "--logs", ADDRESS) == 1
    said = capsys.readouterr().err
    assert "log\\x1b[2J\\n::error::x\\u202e: no such folder; http://***@host/logs?*** and ***\n" in said
    assert told(ValueError("x" * 10**6)) == 1
    assert len(capsys.readouterr().err) < 30_000


def called(*command, stdout=subprocess.PIPE, **variables):
    done = subprocess.run(
        [sys.executable, *command], stdout=stdout, stderr=subprocess.PIPE, env=ENVIRONMENT | variables, timeout=120
    )
    return done.returncode, (done.stdout or b"").decode("ascii"), done.stderr.decode("ascii")


@pytest.mark.parametrize("closed", ["stdout", "both"])
def test_where_nobody_reads_it_ends_quietly(tmp_path, closed):
    for code, command in [(NOBODY_READS, ["--help"]), (1, ["check-logs", log(tmp_path, *["?"] * 3)])]:
        reader, writer = os.pipe()
        os.close(reader)
        stderr = subprocess.PIPE if closed == "stdout" else writer
        done = subprocess.run(
            [sys.executable, "-m", "worldmodel", *command],
            stdout=writer,
            stderr=stderr,
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": ""},
            timeout=120,
            check=False,
        )
        os.close(writer)
        assert (done.returncode, done.stderr or b"") == (code, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_a_full_disk_behind_stdout_is_named():
    with Path("/dev/full").open("w") as full:
        code, _, said = called("-m", "worldmodel", "--help", stdout=full, PYTHONUNBUFFERED="")
    assert (code, said) == (1, "error: stdout: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stage_does_not_fail_for_its_terminal(tmp_path, encoding):
    logs = log(tmp_path, *(frame(time, "😀 agent") for time in range(9)))
    params = ["--params", ROOT / "params.yaml", "--val-share", "0", "--test-share", "0"]
    command = ["-m", "worldmodel", "prepare", "--logs", logs, "--out", tmp_path / "out", *params]
    code, out, said = called(*command, PYTHONIOENCODING=encoding)
    assert (code, said) == (0, "")
    assert "agent \\U0001f600 agent: 1 episodes" in out


def test_a_stage_without_its_libraries_says_what_to_install(tmp_path):
    for missing in ("torch", "pydantic"):
        (tmp_path / missing).mkdir()
        (tmp_path / missing / f"{missing}.py").write_text(f"raise ModuleNotFoundError('none', name={missing!r})")
        for door in ([ROOT / "src/train.py"], ["-m", "worldmodel", "train"]):
            code, _, said = called(*door, "--help", PYTHONPATH=f"{tmp_path / missing}{os.pathsep}{ROOT / 'src'}")
            assert (code, said.count("\n")) == (1, 1), said
            assert said.startswith(f"error: this command needs {missing}, which is not installed; install worldmodel ")


def test_development_mode_shows_where_it_happened():
    code = "import click, sys; from worldmodel.core.errors import run\n"
    code += "@click.command()\ndef command():\n    1 / 0\nrun(command)"
    ended, _, said = called("-X", "dev", "-c", code)
    assert (ended, said.rstrip().splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
