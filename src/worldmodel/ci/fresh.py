"""Does dvc.lock belong to the files of this folder? Neither data nor a remote is needed to tell."""

import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import click

from worldmodel.ci.check_files import require_files
from worldmodel.core.processes import output
from worldmodel.core.project import project_folder
from worldmodel.core.text import escaped
from worldmodel.core.yaml12 import parse_dvc

NOT_HERE = ("deleted", "not in cache")  # what data look like that were not pulled


def stale() -> dict[str, list[str]]:
    """Stage -> what has changed since dvc.lock was written. Raises ValueError where DVC cannot tell."""
    require_files()
    changes = json.loads(output("dvc", "status", "--json"))
    stages, path = parse_dvc(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"], Path("dvc.lock")
    lock = parse_dvc(path.read_text(encoding="utf-8")).get("stages", {}) if path.is_file() else {}
    data = _data(stages)
    made = {out["path"]: out.get("md5") for entry in lock.values() for out in entry.get("outs", [])}
    found: dict[str, list[str]] = {}
    for name in stages:
        if name not in lock:
            found[name] = ["not in dvc.lock"]
        elif reasons := [*_changed(changes.get(name, []), data), *_mixed(lock[name], made)]:
            found[name] = reasons
    return found


def _changed(changes: list[Any], data: set[str]) -> Iterator[str]:
    """As `dvc status` has them, less what is only not here."""
    for change in changes:
        if isinstance(change, str):
            yield change
            continue
        for path, what in (item for entries in change.values() for item in entries.items()):
            if isinstance(what, dict):
                yield from (f"{key} {how}" for key, how in what.items())
            elif not (what in NOT_HERE and path in data):
                yield f"{path} {what}"


def _mixed(entry: dict[str, Any], made: dict[str, str | None]) -> Iterator[str]:
    """A stage of one branch with the input of another, as a merge by hand leaves; without data DVC does not tell."""
    for dep in entry.get("deps", []):
        if made.get(dep["path"], dep.get("md5")) != dep.get("md5"):
            yield f"{dep['path']} is not what the stage before it left, by dvc.lock"


def _data(stages: dict[str, Any]) -> set[str]:
    """Paths of all that DVC keeps: outs of the stages, and data of .dvc files."""
    outs = [out for each in stages.values() for out in each.get("outs", [])]
    tracked = {path.with_suffix("").as_posix() for path in Path("data").rglob("*.dvc")}
    return tracked | {out if isinstance(out, str) else next(iter(out)) for out in outs}


@click.command()
def command() -> None:
    """Fail where dvc.lock does not belong to the files here; needs neither data nor a remote."""
    with chdir(project_folder()):
        found = stale()
    if found:
        lines = [escaped(f"  {name}: {', '.join(reasons)}") for name, reasons in found.items()]
        told = "\n".join(["dvc.lock does not belong to these files; changed since it was written:", *lines])
        raise ValueError(f"{told}\nrun `dvc repro` and commit dvc.lock with what it changed")
    print("dvc.lock belongs to these files")
