"""Other programs, asked for what they say; what stops them is told in their own words."""

import os
import shlex
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path


def environment(without: Collection[str] = ()) -> dict[str, str]:
    """This process's, where `dvc` and `python` are those of its own virtual environment."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def output(*command: str, folder: Path | None = None, fine: Collection[int] = (0,)) -> str:
    """What it writes to stdout. Raises ValueError, with its stderr, where its exit code is none of `fine`."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment() | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: not found; is it installed, and where PATH says?") from None
    if done.returncode not in fine:
        said = done.stderr.strip() or done.stdout.strip() or "it says nothing"
        raise ValueError(f"`{shlex.join(command)}` ended with exit code {done.returncode}: {said}")
    return done.stdout


def git(*arguments: str, folder: Path | None = None, fine: Collection[int] = (0,)) -> str:
    """As `output`, without the newline at the end."""
    return output("git", *arguments, folder=folder, fine=fine).rstrip("\n")
