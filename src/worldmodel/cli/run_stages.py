"""The pipeline without DVC: what is not as dvc.lock records it is run, and recorded there as DVC would."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from worldmodel.core import recorded
from worldmodel.core.atomic import replacing
from worldmodel.core.errors import RUNS
from worldmodel.core.locking import holding
from worldmodel.core.parent import remove
from worldmodel.core.processes import environment
from worldmodel.core.project import PARAMS, project_folder
from worldmodel.core.recorded import OUTS, Stages
from worldmodel.core.regular import parsed
from worldmodel.core.yaml12 import leaves, parse_dvc

LOCK = "dvc.lock"
KNOWN = {"desc", "cmd", "deps", "params", "meta", *OUTS}  # of a stage; what else DVC has is left to it
QUIET = {"bash": ["--noprofile", "--norc"], "zsh": ["--no-rcs"]}  # shells, without files of the user's

Entry = dict[str, Any]  # of a stage in dvc.lock


@click.command()
@click.argument("targets", nargs=-1, metavar="[STAGE]...")
@click.option("--force", is_flag=True, help="Run what dvc.lock records as well.")
@click.option("--check", is_flag=True, help="Run nothing; fail where dvc.lock does not belong to what is here.")
def command(targets: tuple[str, ...], force: bool, check: bool) -> None:
    """Run the stages of dvc.yaml, or STAGE and what it needs, without DVC; write dvc.lock as DVC does.

    A stage whose files and params are as dvc.lock has them is skipped. DVC goes on from here after `dvc commit`.
    """
    with chdir(project_folder()):
        stages = recorded.stages("dvc.yaml")
        ordered = in_order(stages, targets or list(stages))
        if check:
            return require_recorded(stages, ordered)
        with holding(Path(RUNS), "run the pipeline"):
            for name in ordered:
                bring_about(name, stages[name], force)


def in_order(stages: Stages, targets: Sequence[str]) -> list[str]:
    """The targets, each after all that it needs. Raises ValueError for a stage that is not there, or that needs DVC."""
    makers = {out: name for name, stage in stages.items() for out in recorded.paths(stage, *OUTS)}
    ordered: list[str] = []

    def visit(name: str, users: tuple[str, ...]) -> None:
        if name in ordered:
            return
        if name not in stages:
            raise ValueError(f"dvc.yaml has no stage {name}, only {', '.join(stages)}")
        if name in users:
            raise ValueError(f"dvc.yaml: {' needs '.join([*users[users.index(name) :], name])}; break that circle")
        if foreign := _foreign(stages[name]):
            raise ValueError(f"dvc.yaml: stage {name} has {', '.join(foreign)}, which only `dvc repro` knows")
        for dep in recorded.paths(stages[name], "deps"):
            for maker in (makers[out] for out in makers if Path(dep).is_relative_to(out)):
                visit(maker, (*users, name))
        ordered.append(name)

    for target in targets:
        visit(target, ())
    return ordered


def _foreign(stage: Mapping[str, Any]) -> list[str]:
    """What of a stage is for DVC alone."""
    addresses = [path for path in recorded.paths(stage, "deps", *OUTS) if "://" in path]
    options = [each for kind in OUTS for out in stage.get(kind, ()) if isinstance(out, dict) for each in out.values()]
    found = {"persist": any(each.get("persist") for each in options), "${}": "${" in str(stage)}
    return [*sorted(set(stage) - KNOWN), *addresses, *(name for name in found if found[name])]


def require_recorded(stages: Stages, names: Sequence[str]) -> None:
    lock = recorded.stages(LOCK)
    found = {name: list(differences(lock.get(name, {}), entry(stages[name]))) for name in names}
    if any(found.values()):
        lines = [f"  {name}: {', '.join(what)}" for name, what in found.items() if what]
        told = "\n".join([f"{LOCK} does not belong to what is here; other than recorded:", *lines])
        raise ValueError(f"{told}\nrun `worldmodel run`, or restore them")
    print(f"{LOCK} belongs to what is here")


def bring_about(name: str, stage: Mapping[str, Any], force: bool) -> None:
    """Run the stage, where it must, and record it. Raises SystemExit where a command fails, with its exit code."""
    locked = recorded.stages(LOCK).get(name, {})
    if not force and not any(differences(locked, entry(stage))):
        print(f"{name}: as recorded, skipped", flush=True)
        return
    if missing := [path for path in recorded.paths(stage, "deps") if not Path(path).exists()]:
        raise ValueError(f"{missing[0]}: no such file or folder, which {name} depends on; bring it, as `dvc pull` does")
    _execute(name, stage)
    if missing := [path for path in recorded.paths(stage, *OUTS) if not Path(path).exists()]:
        raise ValueError(f"{missing[0]}: not there, although {name} has ended well; dvc.yaml has it among its outs")
    record(name, now := entry(stage))
    print(f"{name}: {'as recorded' if now == locked else f'recorded in {LOCK}'}", flush=True)


def _execute(name: str, stage: Mapping[str, Any]) -> None:
    for out in map(Path, recorded.paths(stage, *OUTS)):
        remove(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    shell = os.environ.get("SHELL") or "/bin/sh"
    variables = {"DVC_ROOT": str(Path.cwd())} | environment() | {"DVC_STAGE": name}
    for line in _commands(stage):
        print(f"{name}: {line}", flush=True)
        process = subprocess.Popen([shell, *QUIET.get(Path(shell).name, []), "-c", line], env=variables)
        code = _ended(process)
        if code:
            print(f"error: {name} ended with exit code {code}; run this again to go on", file=sys.stderr)
            raise SystemExit(code if code > 0 else 128 - code)


def _commands(stage: Mapping[str, Any]) -> list[str]:
    command = stage["cmd"]
    return command if isinstance(command, list) else command.splitlines()


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C reaches the process by itself, which saves its state and ends."""
    while True:
        with suppress(KeyboardInterrupt):
            return process.wait()


def entry(stage: Mapping[str, Any]) -> Entry:
    """What DVC would write of the stage, with the files and params that are here."""
    whole = {
        "cmd": stage["cmd"],
        "deps": _contents(recorded.paths(stage, "deps")),
        "params": _params(stage),
        "outs": _contents(recorded.paths(stage, *OUTS)),
    }
    return {part: found for part, found in whole.items() if found}


def _contents(paths: Iterator[str]) -> list[Entry]:
    return [{"path": path, "hash": "md5"} | recorded.content(Path(path)) for path in sorted(paths)]


def _params(stage: Mapping[str, Any]) -> dict[str, Entry]:
    """File -> key -> value, that of params.yaml first. Raises ValueError for a key that is not there."""
    keys: dict[str, set[str]] = {}
    for each in stage.get("params", ()):
        for file, names in ({PARAMS: [each]} if isinstance(each, str) else each).items():
            keys.setdefault(file, set()).update(names or parsed(Path(file), parse_dvc))
    found = {}
    for file in sorted(keys, key=lambda file: (file != PARAMS, file)):
        values = parsed(Path(file), parse_dvc)
        found[file] = {key: recorded.value(values, key, ...) for key in sorted(keys[file])}
        if missing := [key for key in found[file] if found[file][key] is ...]:
            raise ValueError(f"{file} has no {missing[0]}, which dvc.yaml has among a stage's params; write it there")
    return found


def differences(locked: Mapping[str, Any], now: Entry) -> Iterator[str]:
    """Names of what is not as recorded."""
    if not locked:
        yield f"not in {LOCK}"
        return
    if locked["cmd"] != now["cmd"]:
        yield "cmd"
    for file in {**locked.get("params", {}), **now.get("params", {})}:
        before, after = (dict(leaves(each.get("params", {}).get(file, {}))) for each in (locked, now))
        yield from (f"{file} {key}" for key in {**before, **after} if before.get(key, ...) != after.get(key, ...))
    for part in ("deps", "outs"):
        before, after = ({each["path"]: each for each in of.get(part, [])} for of in (locked, now))
        for path in {**before, **after}:
            if before.get(path) != after.get(path):
                yield path if "md5" in after.get(path, {}) else f"{path} (not here)"


def record(name: str, now: Entry) -> None:
    """The stage's entry takes its place among those that are there."""
    yaml, path = YAML(), Path(LOCK)
    yaml.default_flow_style = False
    whole = parsed(path, yaml.load) if path.is_file() else None
    whole = whole or {"schema": "2.0"}
    whole.setdefault("stages", {})[name] = now
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        yaml.dump(whole, stream)
