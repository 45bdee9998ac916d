"""DVC reads all files of its stages, and waits for ever at a named pipe or a device: these are named first."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import click

from worldmodel.core.project import project_folder
from worldmodel.core.regular import problem, read_text, walk
from worldmodel.core.yaml12 import parse_dvc

OWN = ("dvc.yaml", "dvc.lock", "params.yaml")
LISTS = ("deps", "params", "outs", "metrics", "plots")


def require_files() -> None:
    """Raises ValueError that names each file of the pipeline, in the folder that this runs in, that cannot be read."""
    places = {*OWN, *_places(parse_dvc(read_text(Path("dvc.yaml"))))}
    flaws = {path: problem(path) for place in sorted(places) for path in _files(Path(place))}
    if lines := [f"{path}: {flaw}" for path, flaw in flaws.items() if flaw]:
        raise ValueError("\n".join(lines))


def _places(pipeline: Any) -> Iterator[str]:
    """Whatever stages read or write; keys of params.yaml among them are no files."""
    for stage in pipeline.get("stages", {}).values():
        for each in (each for name in LISTS for each in stage.get(name, ())):
            yield from [each] if isinstance(each, str) else each


def _files(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (folder / name for folder, _, names in walk(place) for name in names)
    elif place.is_symlink() or place.exists():
        yield place


@click.command()
def command() -> None:
    """Fail where DVC would wait for ever, or stop: at named pipes, devices, sockets, links that lead nowhere."""
    with chdir(project_folder()):
        require_files()
