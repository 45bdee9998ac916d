"""What dvc.yaml and dvc.lock say, and the hashes that they say it with, without DVC."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from worldmodel.core.regular import open_regular, parsed, walk
from worldmodel.core.yaml12 import parse_dvc

Stages = Mapping[str, Mapping[str, Any]]
OUTS = ("outs", "metrics", "plots")
OWN = (".git", ".hg/", ".dvc/")  # which DVC leaves out wherever they lie


def stages(name: str) -> Stages:
    """Of dvc.yaml or dvc.lock; none where there is no such file."""
    path = Path(name)
    found = parsed(path, parse_dvc) if path.is_file() else None
    described: Stages = (found or {}).get("stages") or {}
    return described


def paths(stage: Mapping[str, Any], *kinds: str) -> Iterator[str]:
    """Each stands alone, or is the key of its options."""
    for entry in (entry for kind in kinds for entry in stage.get(kind, ())):
        yield from [entry] if isinstance(entry, str) else entry


def value(values: Any, key: str, default: Any = None) -> Any:
    for part in key.split("."):
        values = values.get(part, default) if isinstance(values, Mapping) else default
    return values


def content(path: Path) -> dict[str, Any]:
    """md5, size, and what else dvc.lock has of a file or folder; nothing of what is not there.

    A folder's md5 is that of the list of its files, without those that .dvcignore names.
    """
    if path.is_dir():
        files = sorted(_files(path), key=lambda file: file.relative_to(path).as_posix())
        listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
        digest = hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()
        return {"md5": f"{digest}.dir", "size": sum(file.stat().st_size for file in files), "nfiles": len(files)}
    if not path.exists():
        return {}
    status = path.stat()
    return {"md5": _md5(path), "size": status.st_size} | ({"isexec": True} if status.st_mode & 0o111 else {})


def _md5(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _files(top: Path) -> Iterator[Path]:
    for folder, folders, names in walk(top):
        folders[:] = [name for name in folders if not _ignored(folder / name, is_folder=True)]
        yield from (folder / name for name in names if not _ignored(folder / name, is_folder=False))


def _ignored(path: Path, is_folder: bool) -> bool:
    """By a name anywhere, or by a path from the project's folder; a slash behind: folders alone. The last one counts,
    and takes back where it begins with an exclamation mark.
    """
    ignored = False
    for pattern in _patterns():
        bare = pattern.removeprefix("!").removeprefix("**/")
        subject = path.as_posix() if "/" in bare.rstrip("/") else path.name
        if (is_folder or not bare.endswith("/")) and fnmatchcase(subject, bare.strip("/")):
            ignored = not pattern.startswith("!")
    return ignored


@cache
def _patterns(name: str = ".dvcignore") -> tuple[str, ...]:
    lines = Path(name).read_text(encoding="utf-8").split("\n") if Path(name).is_file() else []
    return (*OWN, *(line.strip() for line in lines if line.strip() and not line.startswith("#")))
