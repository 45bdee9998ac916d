"""Logs of other formats -> canonical JSON lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from worldmodel.core.options import PATH
from worldmodel.core.text import escaped
from worldmodel.episodes.schema import Episode
from worldmodel.logs.reader import write_jsonl
from worldmodel.readers.field_map import FieldMap, read_map
from worldmodel.readers.source import FORMATS, Source, open_source

OUT = (".jsonl", ".jsonl.gz")


@dataclass
class Counted:
    """Episodes that are counted as they pass."""

    source: Source
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
        names, actions = self.source.names, self.last.actions
        kind = "none" if actions is None else "integers" if actions.ndim == 1 else f"{actions.shape[1]} numbers"
        told = [
            f"episodes  {self.episodes}",
            f"frames    {self.frames}",
            f"features  {self.last.features.shape[1]}: {', '.join(names.features)}",
            f"actions   {kind}{': ' if names.actions else ''}{', '.join(names.actions)}",
            f"rewards   {'none' if self.last.rewards is None else 'in every frame'}",
        ]
        left_out = ", ".join(f"{name} ({what})" for name, what in names.left_out.items())
        return [*told, f"left out  {left_out}"] if left_out else told


@click.command()
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="File to write, .jsonl or .jsonl.gz.")
@click.option("--map", "map_file", type=PATH, help="YAML file that says which columns or fields are what.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="What SOURCE is.  [default: as it looks]")
def command(source: Path, out: Path, map_file: Path | None, form: str | None) -> None:
    """Write SOURCE, logs in another format, as JSON lines that the pipeline reads.

    SOURCE is a file, or the folder of a data set. docs/logs.md says what is taken of each format.
    """
    if not out.name.endswith(OUT):
        raise click.UsageError(f"--out {out}: expected a name that ends in {' or '.join(OUT)}.")
    counted = Counted(open_source(source, read_map(map_file) if map_file else FieldMap(), form))
    write_jsonl(out, counted)
    print("\n".join(map(escaped, [f"{out}:", *counted.lines()])))
