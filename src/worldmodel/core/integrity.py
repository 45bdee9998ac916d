"""Is a file what was written? Its hash was noted then, and tells."""

import hashlib
import os
from pathlib import Path

SHORT = 16  # hex digits of a hash in a message, or where each of many records has one


def require_file(path: Path, remedy: str) -> None:
    """Raises ValueError where `path` is missing, or a folder, a pipe or a link to nothing."""
    if not path.is_file():
        raise ValueError(f"{path}: {'no file' if os.path.lexists(path) else 'no such file'}; {remedy}")


def require_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raises ValueError where the file is another one; it may be larger than memory."""
    require_file(path, remedy)
    with path.open("rb") as file:
        require_same(path, hashlib.file_digest(file, "sha256").hexdigest(), expected, remedy)


def require_same(path: Path, found: str, expected: str, remedy: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path}: damaged, or of other work: its sha256 is {found[:SHORT]}, noted was {expected[:SHORT]}; {remedy}"
        )
