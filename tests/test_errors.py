"""The outer edge of every command: one line on stderr and an exit code."""

import click
import pytest

from worldmodel.core.errors import run


def failing(error):
    @click.command()
    @click.option("--count", type=int)
    def command(count):
        raise error

    return command


def test_what_was_wrong_becomes_one_line_and_an_exit_code(capsys):
    for arguments, error, code, line in [
        ([], ValueError("log.jsonl:3: bad"), 1, "error: log.jsonl:3: bad"),
        ([], OSError("log.jsonl:3: bad"), 1, "error: log.jsonl:3: bad"),
        ([], KeyboardInterrupt(), 130, "error: interrupted"),
        ([], click.UsageError("--a without --b."), 2, "error: --a without --b."),
        (["--count", "x"], None, 2, "error: Invalid value for '--count': 'x' is not a valid integer."),
    ]:
        with pytest.raises(SystemExit) as end:
            run(failing(error), arguments)
        said = capsys.readouterr()
        assert (end.value.code, said.out) == (code, "")
        assert said.err.strip().startswith(line)
        assert len(said.err.split("\n")) == 2 + isinstance(error, KeyboardInterrupt)  # a line of its own after ^C


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(AssertionError):
        run(failing(AssertionError("broken")), [])
