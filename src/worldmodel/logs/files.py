"""The log files of a folder, and why some cannot be read.

A location is a path, or an address of a folder or file that fsspec reads, such as s3://bucket/folder.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from worldmodel.core.addresses import public
from worldmodel.core.elsewhere import copied, file_system, name_within, reaching, require_answer
from worldmodel.core.regular import open_regular, problem, walk
from worldmodel.core.temporary import temporary_folder
from worldmodel.readers.source import HDF5, is_named, is_source
from worldmodel.readers.source import SUFFIXES as OTHERS

Location = Path | str

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
PACKED = (".gz", ".zst")
# Links to files are followed wherever they lead, as into a DVC cache. DVC follows no others, and they could go round.
LINKED_FOLDER = "a link to a folder, expected files, folders, and links to files; copy the folder, or link its files"
MOST = 240  # characters of a name that is shown


def location(text: str) -> Location:
    """Parse an argument of the command line: with a scheme it is an address, otherwise a path."""
    return text if "://" in text else Path(text)


@dataclass(frozen=True)
class LogFile:
    name: str  # posix path within its folder, safe to print
    path: Location
    size: int = 0  # bytes on disk
    read_error: str = ""  # why it is not read
    source: bool = False  # of another format, for readers/


def log_files(folder: Location) -> list[LogFile]:
    """The log files of a folder, sorted by path, or the file itself.

    Raises ValueError where there is no such folder, or where a part of it cannot be listed.
    """
    if isinstance(folder, str):
        return _remote_files(folder)
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder; expected one with {', '.join(SUFFIXES)} files")
    if not folder.is_dir():
        file = _log_file(folder.name, folder, problem(folder))
        return [replace(file, source=folder.name.endswith(OTHERS))]
    if is_source(folder):
        return [_log_file(folder.name, folder, "")]
    return [file for _, file in sorted(_below(folder))]


def _remote_files(address: str) -> list[LogFile]:
    with reaching(address):
        system, root = file_system(address)
        found = sorted(system.find(root, detail=True).items())
        if not found:
            require_answer(system, root)
        names = {path: _shown(name_within(root, path)) for path, _ in found}
        logs = [(path, about.get("size")) for path, about in found if _is_log(names[path])]
        files = [_remote_file(system, path, names[path], size) for path, size in logs]
        others = [path for path, _ in found if _is_remote_source(system, path, names)]
        sizes = {path: about.get("size") or 0 for path, about in found}
        files += [LogFile(names[path], system.unstrip_protocol(path), sizes[path], source=True) for path in others]
    if not found:
        raise ValueError(f"{public(address)}: no such folder; expected one with {', '.join(SUFFIXES)} files")
    return sorted(files, key=lambda file: file.name)


def _is_remote_source(system: Any, path: str, names: Mapping[str, str]) -> bool:
    name = names[path]
    if not name.endswith(OTHERS) or _is_hidden(name):
        return False
    return name.endswith(HDF5) or f"{path}.yaml" in names or is_named(name, lambda mode: system.open(path, mode))


@contextmanager
def on_disk(file: LogFile) -> Iterator[Path]:
    """A file of another format, or a copy of it, and of its map, that is there as long as it is read."""
    if isinstance(file.path, Path):
        yield file.path
        return
    with temporary_folder() as folder:
        copy = folder / PurePosixPath(file.name).name
        with reaching(file.path):
            system, path = file_system(file.path)
            system.get_file(path, str(copy))
            if system.exists(f"{path}.yaml"):
                system.get_file(f"{path}.yaml", f"{copy}.yaml")
        yield copy


def _remote_file(system: Any, path: str, name: str, size: int | None) -> LogFile:
    if size is not None:
        return LogFile(name, system.unstrip_protocol(path), size)
    copy = copied(system, path)
    return LogFile(name, copy, copy.stat().st_size)


def _below(folder: Path) -> Iterator[tuple[str, LogFile]]:
    """Path within the folder, and log file."""
    for parent, folders, names in walk(folder):
        flaws = {name: LINKED_FOLDER for name in folders if (parent / name).is_symlink()}
        flaws |= {name: problem(parent / name) for name in names if _is_log(name) or _is_source(parent / name)}
        sources = [name for name in folders if name not in flaws and _is_source(parent / name)]
        flaws |= dict.fromkeys(sources, "")
        folders[:] = [name for name in folders if name not in sources and not _is_hidden(name)]
        for name, flaw in flaws.items():
            within = (parent / name).relative_to(folder).as_posix()
            yield within, _log_file(within, parent / name, flaw)


def _is_log(name: str) -> bool:
    return name.endswith(SUFFIXES) and not _is_hidden(name)


def _is_source(path: Path) -> bool:
    return not _is_hidden(path.name) and is_source(path)


def _is_hidden(name: str) -> bool:
    """Of a path within the logs: what macOS or an editor keeps, which are copies and worse."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _log_file(name: str, path: Path, flaw: str) -> LogFile:
    if flaw:
        return LogFile(_shown(name), path, read_error=flaw)
    whole = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return LogFile(_shown(name), path, sum(each.stat().st_size for each in whole), source=not _is_log(path.name))


def _shown(name: str) -> str:
    """The name as text that every terminal and CSV file can hold; the middle of a very long one is left out."""
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    shown = readable if readable.isprintable() else repr(readable)[1:-1]
    return shown if len(shown) <= MOST else f"{shown[: MOST // 2]}...{shown[-MOST // 2 :]}"


def opened(file: LogFile) -> BinaryIO:
    if isinstance(file.path, str):
        import fsspec  # takes a moment to load

        return cast(BinaryIO, fsspec.open(file.path, "rb").open())
    return open_regular(file.path)
