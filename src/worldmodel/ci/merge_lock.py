"""A git merge driver for dvc.lock: stage by stage.

A stage that one branch changed is taken from that branch. Where both did, neither entry describes the merged code and
params: it goes, and `dvc repro` runs the stage again or takes it from the run cache. `--install` makes git use it.
"""

import re
import shlex
import sys
from pathlib import Path

import click

from worldmodel.core.atomic import replacing
from worldmodel.core.options import PATH
from worldmodel.core.processes import git
from worldmodel.core.project import project_folder
from worldmodel.core.regular import read_text

HEAD = "schema: '2.0'\nstages:\n"
EMPTY = HEAD.replace("stages:", "stages: {}")
STAGE = re.compile(r"^  (\S.*):\n", re.MULTILINE)
WHOLE = re.compile(re.escape(HEAD) + r"  \S.*:\n(?:(?:  .*)?\n)*")
# Where the driver cannot run, git's own merge keeps both sides; a conflict it stays, so that somebody looks.
MERGE = (
    "{python} -P -m worldmodel merge-driver %O %A %B || ( "
    "echo 'dvc.lock: merged as text, look at it; if the driver was not found: worldmodel merge-driver --install' >&2; "
    "git merge-file -L ours -L base -L theirs %A %O %B; exit 1 )"
)
STAY = "echo %P: stays as on this branch, until dvc repro writes it anew >&2"
ATTRIBUTES = {"dvc.lock": "dvc-lock", "artifacts/metrics.json": "stage-output"}


def parse(text: str, path: Path) -> dict[str, str]:
    """Stage -> the text of its entry."""
    if text == EMPTY:
        return {}
    names = STAGE.findall(text)
    if not WHOLE.fullmatch(text) or len(set(names)) < len(names):
        raise ValueError(f"{path}: not a dvc.lock of schema 2.0 with stages alone, each once; merge it by hand")
    starts = [found.start() for found in STAGE.finditer(text)]
    return {name: text[begin:end] for name, begin, end in zip(names, starts, [*starts[1:], len(text)], strict=True)}


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
    with replacing(path) as temporary:
        temporary.write_text(HEAD + "".join(stages.values()) if stages else EMPTY, encoding="utf-8")


def drive(base: Path, ours: Path, theirs: Path) -> None:
    """Merge into the file of ours, as git expects it; git gives an empty base where both branches made the file."""
    texts = {path: read_text(path) for path in (base, ours, theirs)}
    texts[base] = texts[base] or EMPTY
    merged, dropped = merge(*(parse(text, path) for path, text in texts.items()))
    write(ours, merged)
    if dropped:
        print(f"dvc.lock: both branches changed {', '.join(dropped)}; run `dvc repro` and commit", file=sys.stderr)


def install(project: Path) -> None:
    """Into the clone's settings, which all its working trees share. Raises ValueError where git would not call it."""
    for name, driver in ATTRIBUTES.items():
        if not git("check-attr", "merge", "--", name, folder=project).endswith(f": merge: {driver}"):
            raise ValueError(f"{project / '.gitattributes'}: found no `{name} merge={driver}`; restore that file first")
    python = shlex.quote(sys.executable).replace("%", "%%")
    git("config", "merge.dvc-lock.driver", MERGE.format(python=python), folder=project)
    git("config", "merge.stage-output.driver", STAY, folder=project)
    print("git merges dvc.lock by stages in this clone")


@click.command()
@click.option("--install", "installs", is_flag=True, help="Let git call it in this clone.")
@click.argument("files", nargs=-1, type=PATH, metavar="[BASE OURS THEIRS]")
def command(installs: bool, files: tuple[Path, ...]) -> None:
    """Merge dvc.lock stage by stage, as git asks for it with three files; --install lets git do so in this clone."""
    if installs and not files:
        return install(project_folder())
    if installs or len(files) != 3:
        raise click.UsageError("expected three files (base, ours, theirs) or --install.", click.get_current_context())
    drive(*files)
