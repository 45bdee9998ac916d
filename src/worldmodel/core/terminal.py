"""stdout and stderr, whatever is at their other end."""

import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO


def print_anything() -> None:
    """What the terminal's encoding lacks is printed as \\u...., and stops nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def variables() -> dict[str, str]:
    """Environment variables that make another Python process print so."""
    return {"PYTHONIOENCODING": f"{getattr(sys.stdout, 'encoding', None) or 'utf-8'}:backslashreplace"}


def flush() -> None:
    """Raises OSError that names stdout."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _redirect(sys.stdout)
        raise OSError(error.errno, error.strerror, "stdout") from None


def nobody_reads() -> bool:
    """Whether stdout or stderr is a pipe whose other end is closed; what is still written to it goes nowhere then."""
    return any([_shut(sys.stdout), _shut(sys.stderr)])


def _shut(stream: TextIO | None) -> bool:
    shut = False
    with suppress(AttributeError, OSError, ValueError):  # no stream, or none with a file behind it
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # type: ignore[union-attr]
        shut = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if shut:
        _redirect(stream)
    return shut


def _redirect(stream: TextIO | None) -> None:
    """To nowhere: Python writes once more, at its end, what the stream still holds."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]
