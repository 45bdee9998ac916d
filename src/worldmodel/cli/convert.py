"""Logs of other formats -> canonical JSON lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from worldmodel.core.options import PATH
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.text import escaped
from worldmodel.episodes.schema import Episode
from worldmodel.episodes.temporary_store import EpisodeStore
from worldmodel.logs.files import SUFFIXES
from worldmodel.logs.reader import collect_logs, write_jsonl
from worldmodel.readers.field_map import FieldMap, read_map
from worldmodel.readers.source import FORMATS, Names, open_source

OUT = (".jsonl", ".jsonl.gz")


@dataclass
class Counted:
    """Episodes that are counted as they pass."""

    source: Iterable[Episode]
    names: Names
    episodes: int = 0
    frames: int = 0
    last: Episode | None = None

    def __iter__(self) -> Iterator[Episode]:
        for episode in self.source:
            self.episodes += 1
            self.frames += episode.length
            self.last = episode
            yield episode

    def lines(self) -> list[str]:
        assert self.last is not None
        names, actions = self.names, self.last.actions
        kind = "none" if actions is None else "integers" if actions.ndim == 1 else f"{actions.shape[1]} numbers"
        told = [
            f"episodes  {self.episodes}",
            f"frames    {self.frames}",
            f"features  {self.last.features.shape[1]}{': ' if names.features else ''}{', '.join(names.features)}",
            f"actions   {kind}{': ' if names.actions else ''}{', '.join(names.actions)}",
            f"rewards   {'none' if self.last.rewards is None else 'in every frame'}",
        ]
        left_out = ", ".join(f"{name} ({what})" for name, what in names.left_out.items())
        return [*told, f"left out  {left_out}"] if left_out else told


def lines_of(path: Path) -> Iterator[Episode]:
    """Episodes of a log of lines. Raises ValueError where a row is wrong."""
    with temporary_folder() as folder, EpisodeStore.within(folder) as store:
        logs = collect_logs([path], read(default_params()).prepare.max_gap_s, store.add)
        if logs.rejects:
            raise ValueError(f"{logs.rejects[0]}; `worldmodel check-logs` names all {len(logs.rejects)} wrong rows")
        for each in logs.episodes:
            facts = {name: getattr(each, name) for name in ("segment", "source", "split", "terminal", "provenance")}
            yield Episode(each.agent_id, each.name, **each.table()._asdict(), **facts)


@click.command()
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="File to write, .jsonl or .jsonl.gz.")
@click.option("--map", "map_file", type=PATH, help="YAML file that says which columns or fields are what.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="What SOURCE is.  [default: as it looks]")
def command(source: Path, out: Path, map_file: Path | None, form: str | None) -> None:
    """Write SOURCE, logs in another format, as JSON lines that the pipeline reads.

    SOURCE is a file, the folder of a data set, or a log of lines (.jsonl, .gz, .zst). docs/logs.md
    says what is taken of each format.
    """
    if not out.name.endswith(OUT):
        raise click.UsageError(f"--out {out}: expected a name that ends in {' or '.join(OUT)}.")
    if source.name.endswith(SUFFIXES) and form is None and map_file is None:
        counted = Counted(lines_of(source), Names())
    else:
        opened = open_source(source, read_map(map_file) if map_file else FieldMap(), form)
        counted = Counted(opened, opened.names)
    write_jsonl(out, counted)
    print("\n".join(map(escaped, [f"{out}:", *counted.lines()])))
