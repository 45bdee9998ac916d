"""The outer edge of every command: what went wrong becomes one line on stderr and an exit code."""

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import click

from worldmodel.core import terminal
from worldmodel.core.addresses import known_secrets, reason, redacted
from worldmodel.core.text import escaped

WRONG_USE = 2
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130
NOBODY_READS = 141  # 128 + SIGPIPE, as of any other program in a pipe
MOST = 20_000  # characters of a message
RUNS = "runs"
_NO_MEMORY = re.compile("out of memory|allocate memory")  # as PyTorch says it
NO_MEMORY = "out of memory; free some, or lower train.batch_size, train.hidden_dim or WORLDMODEL_JOBS"
CLIENTS = ("aiohttp", "botocore", "fsspec", "s3fs")  # whose errors are no OSError
GONE = "a connection broke off (broken pipe); run it again"
INSTALL = "install worldmodel with its extra `pipeline`: pip install '.[pipeline]' in a checkout"
ENDED_FROM_OUTSIDE = (
    "a process of this command was ended from outside, as the system does where memory runs out; "
    "lower WORLDMODEL_JOBS, or free some memory, and run it again"
)


def run(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Call the command with the process's arguments; ends with exit code 0 only where it did its work.

    1: an input is wrong, or there is no room or no library for the work; 2: the command was used wrongly; 70: a
    mistake of ours; 130: Ctrl-C; 141: nobody reads what it prints. `error: ...` on stderr says what was found and what
    to do. `python -X dev` shows where it happened.
    """
    given = None if arguments is None else list(arguments)
    with outer_edge(given):
        command.main(given, standalone_mode=False)


@contextmanager
def outer_edge(arguments: Sequence[str] | None = None) -> Iterator[None]:
    """What `run` does, around imports as well. Prints whatever the terminal's encoding lacks as \\u...."""
    terminal.print_anything()
    given, stdout, stderr = sys.argv if arguments is None else arguments, sys.stdout, sys.stderr
    try:
        yield
        terminal.flush()
    except SystemExit:
        if sys.stdout is not stdout:  # how click ends where a pipe is broken
            sys.stdout, sys.stderr = stdout, stderr
            raise SystemExit(_ending(BrokenPipeError(GONE), given)) from None
        _last_words()
        raise
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(_complaint("interrupted", INTERRUPTED, given)) from None
    except click.exceptions.NoArgsIsHelpError as error:
        raise SystemExit(_complaint(f"nothing was asked for; {_help_of(error)}", WRONG_USE, given)) from None
    except click.UsageError as error:
        raise SystemExit(_complaint(f"{error.format_message()} {_help_of(error)}", WRONG_USE, given)) from None
    except BaseException as error:
        if sys.flags.dev_mode and not isinstance(error, BrokenPipeError):
            raise
        raise SystemExit(_ending(error, given)) from None


def _ending(error: BaseException, given: Sequence[str]) -> int:
    """The exit code, once it was said why."""
    try:
        terminal.flush()
    except OSError as unwritten:
        error = unwritten
    if isinstance(error, BrokenPipeError) and terminal.nobody_reads():
        return NOBODY_READS
    text, code = _told(error, given)
    return _complaint(text, code, given)


def _told(error: BaseException, given: Sequence[str]) -> tuple[str, int]:
    """What to say, and the exit code."""
    match error:
        case OSError(filename=str() | bytes() | os.PathLike() as place, strerror=str() as what):
            return f"{os.fsdecode(place)}: {what}", 1
        case ModuleNotFoundError(name=str() as name) if name.split(".")[0] != "worldmodel":
            return f"this command needs {name}, which is not installed; {INSTALL}", 1
        case click.ClickException():
            return error.format_message(), 1
        case ValueError() | OSError():
            return str(error) or type(error).__name__, 1
        case MemoryError() | RuntimeError() if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            return f"{NO_MEMORY} {f'({reason(error)})' if str(error) else ''}", 1
        case RecursionError():
            return "an input is nested too deeply to be read; flatten it", 1
        case BrokenExecutor() if "serialize" not in str(error):
            return ENDED_FROM_OUTSIDE, 1
        case _ if type(error).__module__.split(".")[0] in CLIENTS:
            return f"a server answers otherwise than expected ({reason(error)}); check address, keys and network", 1
    where = _written(error, given)
    return f"this is a bug in worldmodel {_version()}: {type(error).__name__}: {reason(error)}; {where}", BUG


def _written(error: BaseException, given: Sequence[str]) -> str:
    """Where the traceback is."""
    text = redacted("".join(traceback.format_exception(error)), known_secrets(given))
    project = Path(os.environ.get("DVC_ROOT", "."))
    for folder in (project / RUNS if (project / "dvc.yaml").is_file() else None, None):
        with suppress(OSError):
            if folder:
                folder.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(".txt", "bug-", folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return f"details in {name}"
    return "its details could not be written anywhere"


def _version() -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("worldmodel")
    return "(a checkout)"


def _help_of(error: click.UsageError) -> str:
    return f"(`{error.ctx.command_path} --help` lists what there is)" if error.ctx else ""


def _complaint(text: str, code: int, given: Sequence[str]) -> int:
    """What others have put into the text neither breaks its line nor drives the terminal, and opens no door."""
    for argument in (part for each in given for part in (each, each.partition("=")[2])):
        if argument.strip() and "\n" in argument:
            text = text.replace(argument, escaped(argument))
    more = f"... and {len(text) - MOST} characters more" if len(text) > MOST else ""
    shown = escaped(redacted(text[: 2 * MOST], known_secrets(given)), keep="\n\t").rstrip()
    _last_words(f"error: {shown[:MOST]}{more}")
    return code


def _last_words(text: str = "") -> None:
    """On stderr, after what stdout still holds; where nobody reads them, nothing stops for it."""
    with suppress(OSError):
        terminal.flush()
    with suppress(OSError):
        if text:
            print(text, file=sys.stderr, flush=True)
    terminal.nobody_reads()
