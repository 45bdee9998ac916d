"""Exit code 1 where dvc.lock does not belong to the files of this folder; neither data nor a remote is needed.

`dvc repro --dry --allow-missing` knows, and tells it in what it prints: with all data there, its exit code is 0 anyway.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import click

from worldmodel.core.yaml12 import read_yaml

TO_RUN = re.compile(r"Running stage '([^']+)'|Stage '([^']+)' is cached|failed to reproduce '([^']+)'")
NOT_HERE = ("deleted", "not in cache")  # what data look like that were not pulled


def stale() -> dict[str, list[str]]:
    """Stage -> what has changed since dvc.lock was written, for those stages that `dvc repro` would run first."""
    code, said = _dvc("repro", "--dry", "--allow-missing", "--keep-going")
    named = {name for match in TO_RUN.findall(said) for name in match if name}
    if code and not named:
        raise ValueError(f"dvc repro --dry --allow-missing: {' '.join(said.split())[-500:]}")
    reasons = _reasons()
    unknown = ["what it took in is not what the stage before it left, by dvc.lock"]
    stages, lock = read_yaml(Path("dvc.yaml"))["stages"], Path("dvc.lock")
    known = read_yaml(lock).get("stages", {}) if lock.is_file() else {}
    reasons |= {name: ["not in dvc.lock"] for name in stages if name not in known}
    return {name: reasons.get(name) or unknown for name in stages if name in named or reasons.get(name)}


def _reasons() -> dict[str, list[str]]:
    """As `dvc status` has them, less what is only not here."""
    code, said = _dvc("status", "--json")
    if code:
        raise ValueError(f"dvc status: {' '.join(said.split())[-500:]}")
    outs = _outs()
    found: dict[str, list[str]] = {}
    for name, changes in json.loads(said[said.index("{") :]).items():
        found[name] = [reason for change in changes for reason in _of_change(change, outs)]
    return found


def _of_change(change: Any, outs: set[str]) -> list[str]:
    if isinstance(change, str):
        return [change]
    reasons = []
    for path, what in (item for entries in change.values() for item in entries.items()):
        if isinstance(what, dict):
            reasons += [f"{key} {how}" for key, how in what.items()]
        elif not (what in NOT_HERE and path in outs):
            reasons.append(f"{path} {what}")
    return reasons


def _outs() -> set[str]:
    """Paths of all that DVC keeps: outs of the stages, and data of .dvc files."""
    stages = read_yaml(Path("dvc.yaml"))["stages"].values()
    outs = [out for each in stages for out in each.get("outs", [])]
    tracked = {path.with_suffix("").as_posix() for path in Path("data").rglob("*.dvc")}
    return tracked | {out if isinstance(out, str) else next(iter(out)) for out in outs}


def _dvc(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["dvc", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@click.command()
def command() -> None:
    """Fail where dvc.lock does not belong to the files of this folder; needs neither data nor a remote."""
    found = stale()
    if found:
        lines = [f"  {name}: {', '.join(reasons)}" for name, reasons in found.items()]
        told = "\n".join(["dvc.lock does not belong to these files; changed since it was written:", *lines])
        raise ValueError(f"{told}\nrun `dvc repro` and commit dvc.lock with what it changed")
    print("dvc.lock belongs to these files")
