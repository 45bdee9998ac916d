"""A git merge driver for dvc.lock: stage by stage, and never a conflict marker.

A stage that one branch changed is taken from that branch. Where both did, neither entry describes the merged code and
params: it goes, and `dvc repro` runs the stage again or takes it from the run cache. `--install` makes git use it.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click

from worldmodel.core.options import PATH

HEAD = "schema: '2.0'\nstages:\n"
STAGE = re.compile(r"^  (\S.*):\n", re.MULTILINE)
WHOLE = re.compile(re.escape(HEAD) + r"  \S.*:\n(?:(?:  .*)?\n)*")
DRIVERS = {
    "dvc-lock": "{python} -m worldmodel merge-driver %O %A %B",
    "stage-output": "true",  # this branch's file stays, until `dvc repro` writes it anew
}


def parse(text: str, path: Path) -> dict[str, str]:
    """Stage -> the text of its entry; an empty file, as git gives where there was none, has no stage."""
    if text in ("", HEAD.replace("stages:", "stages: {}")):
        return {}
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{path}: not a dvc.lock of schema 2.0 with stages alone; merge it by hand")
    starts = list(STAGE.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {start[1]: text[start.start() : end] for start, end in zip(starts, ends, strict=True)}


def merge(base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The merged stages in the order of ours, and the names of those that both branches changed."""
    merged, dropped = {}, []
    for name in dict.fromkeys([*ours, *theirs]):
        before, our, their = base.get(name), ours.get(name), theirs.get(name)
        if our != their and before not in (our, their):
            dropped.append(name)
        elif kept := (their if our == before else our):
            merged[name] = kept
    return merged, dropped


def write(path: Path, stages: dict[str, str]) -> None:
    path.write_text(HEAD + "".join(stages.values()) if stages else HEAD.replace("stages:", "stages: {}"), "utf-8")


def drive(base: Path, ours: Path, theirs: Path) -> None:
    """Merge into the file of ours, as git expects it."""
    merged, dropped = merge(*(parse(path.read_text(encoding="utf-8"), path) for path in (base, ours, theirs)))
    write(ours, merged)
    if dropped:
        print(f"dvc.lock: both branches changed {', '.join(dropped)}; run `dvc repro` and commit", file=sys.stderr)


def install() -> None:
    for name, command in DRIVERS.items():
        driver = command.format(python=shlex.quote(sys.executable))
        subprocess.run(["git", "config", f"merge.{name}.driver", driver], check=True)
    print("git merges dvc.lock by stages in this clone")


@click.command()
@click.option("--install", "installs", is_flag=True, help="Make this clone use it.")
@click.argument("files", nargs=-1, type=PATH, metavar="[BASE OURS THEIRS]")
def command(installs: bool, files: tuple[Path, ...]) -> None:
    """Merge dvc.lock stage by stage, as git asks for it with three files; --install lets git do so in this clone."""
    if installs and not files:
        return install()
    if installs or len(files) != 3:
        raise click.UsageError("expected three files (base, ours, theirs) or --install.", click.get_current_context())
    drive(*files)
