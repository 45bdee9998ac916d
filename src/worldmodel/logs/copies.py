"""The log files of some folders, each content once."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from worldmodel.core.addresses import public
from worldmodel.logs.blocks import read_blocks
from worldmodel.logs.files import SUFFIXES, Location, LogFile, log_files, opened


def find_logs(folders: Sequence[Location]) -> list[LogFile]:
    """The log files of each folder, sorted; a copy of an earlier one has a read_error.

    Raises ValueError where a folder or its log files are missing.
    """
    files = []
    for folder in folders:
        new = log_files(folder)
        if not new:
            raise ValueError(
                f"{public(str(folder))}: holds no log file; expected one or more that end in {', '.join(SUFFIXES)}"
            )
        files += new
    return _without_copies(files)


def _without_copies(files: Sequence[LogFile]) -> list[LogFile]:
    """Files of the same unpacked length are compared by hash; all but the first of equals get a read_error."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        if file.size and not file.read_error and not (file.source and Path(file.path).is_dir()):
            alike[_length(file)].append(index)
    marked = list(files)
    for indices in alike.values():
        first: dict[str, int] = {}
        for index in indices if len(indices) > 1 else ():
            earlier = first.setdefault(_digest(files[index]), index)
            if earlier != index:
                reason = f"the same lines as {files[earlier].name}, expected each log once"
                marked[index] = replace(files[index], read_error=reason)
    return marked


def _length(file: LogFile) -> int:
    """Bytes when unpacked, modulo 2^32, or as they are where it is not told (.zst); -1 where it cannot be read."""
    try:
        if not file.name.endswith(".gz"):
            return file.size % 2**32
        with opened(file) as stream:
            stream.seek(-min(4, file.size), os.SEEK_END)
            return int.from_bytes(stream.read(4), "little")
    except (OSError, ValueError):
        return -1


def _digest(file: LogFile) -> str:
    if file.source:
        with opened(file) as stream:
            return hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()
    digest = hashlib.sha256()
    for block in read_blocks(file):
        digest.update(block.data or f"{file.name}: {block.read_error}".encode())
    return digest.hexdigest()
