"""Metrics that git keeps of an earlier run, once a stage before theirs has begun with other data or params."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldmodel.core.recorded import OUTS, Stages, content, paths, stages, value
from worldmodel.core.regular import parsed
from worldmodel.core.yaml12 import parse_dvc


def remove_outdated_metrics() -> None:
    """Remove metrics, and the plots beside them, of all stages that depend on the one that this process runs, where
    dvc.lock has other data or params for it than are here.

    DVC clears them away only when their own stage begins: a run that ends before would leave another one's numbers as
    if they were its own. Nothing goes unless this process is the `cmd` that the dvc.yaml here has for the stage: any
    other call has outs of its own.
    """
    known, stage = stages("dvc.yaml"), Path(sys.argv[0]).stem
    if shlex.split(str(known.get(stage, {}).get("cmd", "")))[1:] != sys.argv:
        return
    if not _as_locked(stages("dvc.lock").get(stage, {})):
        for user in (known[name] for name in _users(known, stage)):
            for path in paths(user, "metrics", "plots") if "metrics" in user else ():
                Path(path).unlink(missing_ok=True)


def _users(known: Stages, stage: str) -> set[str]:
    """Those that use what this one makes, and those that use what they make."""
    made = set(paths(known[stage], *OUTS))
    users = {name for name, other in known.items() if made & set(paths(other, "deps"))}
    return users.union(*(_users(known, user) for user in users))


def _as_locked(entry: Mapping[str, Any]) -> bool:
    """Whether params and data are those of an entry of dvc.lock. Code is left out: what another one changes is seen in
    the data that it makes.
    """
    for name, locked in entry.get("params", {}).items():
        now = parsed(Path(name), parse_dvc)
        if any(value(now, key) != kept for key, kept in locked.items()):
            return False
    data = [
        dep for dep in entry.get("deps", ()) if not dep["path"].startswith("src/") and not dep["path"].endswith(".py")
    ]
    return bool(entry) and all(dep.get("md5", "") == content(Path(dep["path"])).get("md5", "") for dep in data)
