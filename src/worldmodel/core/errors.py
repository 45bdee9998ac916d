"""The outer edge of every command: what was wrong becomes one line on stderr and an exit code."""

import sys
from collections.abc import Sequence

import click

WRONG_USE = 2
INTERRUPTED = 130


def run(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Call the command with the process's arguments; ends with exit code 0 only where it did its work.

    1: an input is wrong (ValueError, OSError), 2: the command was used wrongly, 130: Ctrl-C; `error: ...` on stderr
    says what was found and what to do. `python -X dev` shows where it happened.
    """
    try:
        command.main(None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        raise SystemExit(_complaint(f"nothing was asked for; {_help_of(error)}", WRONG_USE)) from None
    except click.UsageError as error:
        raise SystemExit(_complaint(f"{error.format_message()} {_help_of(error)}", WRONG_USE)) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(_complaint("interrupted", INTERRUPTED)) from None
    except (ValueError, OSError) as error:
        if sys.flags.dev_mode:
            raise
        raise SystemExit(_complaint(str(error), 1)) from None


def _help_of(error: click.UsageError) -> str:
    return f"(`{error.ctx.command_path} --help` lists what there is)" if error.ctx else ""


def _complaint(text: str, code: int) -> int:
    print(f"error: {text}".rstrip(), file=sys.stderr)
    return code
