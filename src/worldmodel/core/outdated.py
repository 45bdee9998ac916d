"""Metrics that git keeps of an earlier run, once a stage before theirs has begun with other data or params."""

import hashlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worldmodel.core.regular import open_regular, parsed, walk
from worldmodel.core.yaml12 import parse_dvc

Stages = Mapping[str, Mapping[str, Any]]


def remove_outdated_metrics() -> None:
    """Remove metrics, and the plots beside them, of all stages that depend on the one that this process runs, where
    dvc.lock has other data or params for it than are here.

    DVC clears them away only when their own stage begins: a run that ends before would leave another one's numbers as
    if they were its own. Nothing goes unless this process is the `cmd` that the dvc.yaml here has for the stage: any
    other call has outs of its own.
    """
    stages, stage = _stages("dvc.yaml"), Path(sys.argv[0]).stem
    if shlex.split(str(stages.get(stage, {}).get("cmd", "")))[1:] != sys.argv:
        return
    if not _as_locked(_stages("dvc.lock").get(stage, {})):
        for user in (stages[name] for name in _users(stages, stage)):
            for path in _paths(user, "metrics", "plots") if "metrics" in user else ():
                Path(path).unlink(missing_ok=True)


def _stages(name: str) -> Stages:
    path = Path(name)
    found = parsed(path, parse_dvc) if path.is_file() else None
    stages: Stages = (found or {}).get("stages") or {}
    return stages


def _users(stages: Stages, stage: str) -> set[str]:
    """Those that use what this one makes, and those that use what they make."""
    made = set(_paths(stages[stage], "outs", "metrics", "plots"))
    users = {name for name, other in stages.items() if made & set(_paths(other, "deps"))}
    return users.union(*(_users(stages, user) for user in users))


def _paths(stage: Mapping[str, Any], *kinds: str) -> Iterator[str]:
    """Each stands alone, or is the key of its options."""
    for entry in (entry for kind in kinds for entry in stage.get(kind, ())):
        yield from [entry] if isinstance(entry, str) else entry


def _as_locked(entry: Mapping[str, Any]) -> bool:
    """Whether params and data are those of an entry of dvc.lock. Code is left out: what another one changes is seen in
    the data that it makes.
    """
    for name, locked in entry.get("params", {}).items():
        now = parsed(Path(name), parse_dvc)
        if any(_value(now, key) != value for key, value in locked.items()):
            return False
    data = [
        dep for dep in entry.get("deps", ()) if not dep["path"].startswith("src/") and not dep["path"].endswith(".py")
    ]
    return bool(entry) and all(dep.get("md5") == _md5(Path(dep["path"])) for dep in data)


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _md5(path: Path) -> str:
    """As DVC has it of a file, or of a folder's files and their paths; nothing of what is not there."""
    if path.is_dir():
        files = sorted(folder / name for folder, _, names in walk(path) for name in names)
        listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
        listed.sort(key=lambda each: each["relpath"])
        return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"
    if not path.exists():
        return ""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "md5").hexdigest()
