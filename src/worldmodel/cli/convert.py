"""Logs of other formats -> canonical JSON lines."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from worldmodel.core.options import PATH
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.text import escaped
from worldmodel.episodes.columns import Column, Columns
from worldmodel.episodes.schema import Episode
from worldmodel.episodes.temporary_store import EpisodeStore
from worldmodel.logs.described import write_columns
from worldmodel.logs.files import SUFFIXES
from worldmodel.logs.reader import collect_logs
from worldmodel.logs.writing import write_jsonl
from worldmodel.readers.field_map import read_map
from worldmodel.readers.source import FORMATS, Source, open_source

OUT = (".jsonl", ".jsonl.gz")


@dataclass
class Counted:
    """Episodes that are counted as they pass."""

    source: Iterable[Episode]
    about: Source | None = None  # what knows names
    episodes: int = 0
    frames: int = 0
    missing: NDArray[np.int64] | None = None  # [F] readings
    last: Episode | None = None

    def __iter__(self) -> Iterator[Episode]:
        for episode in self.source:
            self.episodes += 1
            self.frames += episode.length
            missing = np.isnan(episode.features).sum(axis=0)
            self.missing = missing if self.missing is None else self.missing + missing
            self.last = episode
            yield episode

    @property
    def columns(self) -> Columns:
        return self.about.columns if self.about else Columns()

    def lines(self) -> list[str]:
        assert self.last is not None
        last, actions = self.last, self.last.actions
        kind = "none" if actions is None else "integers" if actions.ndim == 1 else f"{actions.shape[1]} numbers"
        told = [
            f"episodes  {self.episodes}",
            f"frames    {self.frames}",
            f"features  {last.features.shape[1]}{_named(self.columns.features)}",
            f"actions   {kind}{_named(self.columns.actions)}",
            f"rewards   {'none' if last.rewards is None else 'in every frame'}",
        ]
        if last.context is not None:
            told.append(f"context   {last.context.shape[1]}{_named(self.columns.context)}")
        listed = {
            "missing": ", ".join(self._missing()),
            "left out": ", ".join(
                f"{name} ({what})" for name, what in (self.about.left_out if self.about else {}).items()
            ),
        }
        return [*told, *(f"{name:<9} {text}" for name, text in listed.items() if text)]

    def _missing(self) -> Iterator[str]:
        """Of each feature that has some, how many readings."""
        assert self.missing is not None
        for number in np.flatnonzero(self.missing):
            name = self.columns.features[number].name if self.columns.features else f"feature {number}"
            yield f"{name} {self.missing[number]} of {self.frames}"


def _named(columns: Sequence[Column]) -> str:
    return f": {', '.join(each.name for each in columns)}" if columns else ""


def lines_of(path: Path) -> Iterator[Episode]:
    """Episodes of a log of lines. Raises ValueError where a row is wrong."""
    with temporary_folder() as folder, EpisodeStore.within(folder) as store:
        logs = collect_logs([path], read(default_params()).prepare.max_gap_s, store.add, missing="mask")
        if logs.rejects:
            raise ValueError(f"{logs.rejects[0]}; `worldmodel check-logs` names all {len(logs.rejects)} wrong rows")
        yield from (episode.whole() for episode in logs.episodes)


def short(episode: Episode) -> Episode:
    """With float32 features where the source holds no others, so that their text is short; large whole numbers, such
    as seconds since 1970, are float32 numbers by chance and would lose their last digits.
    """
    narrow = episode.narrowed()
    with np.errstate(invalid="ignore"):
        exact = np.array_equal(narrow.features, episode.features, equal_nan=True)
        return narrow if exact and not (np.abs(narrow.features) > 2**24).any() else episode


@click.command()
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="File to write, .jsonl or .jsonl.gz.")
@click.option("--map", "map_file", type=PATH, help="YAML file that says which columns or fields are what.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="What SOURCE is.  [default: as it looks]")
def command(source: Path, out: Path, map_file: Path | None, form: str | None) -> None:
    """Write SOURCE, logs in another format, as JSON lines that the pipeline reads.

    SOURCE is a file, the folder of a data set, or a log of lines (.jsonl, .gz, .zst). docs/logs.md
    says what is taken of each format. Names of its numbers go into features.yaml beside FILE.
    """
    if not out.name.endswith(OUT):
        raise click.UsageError(f"--out {out}: expected a name that ends in {' or '.join(OUT)}.")
    if source.name.endswith(SUFFIXES) and form is None and map_file is None:
        counted = Counted(lines_of(source))
    else:
        opened = open_source(source, read_map(map_file) if map_file else None, form)
        counted = Counted(opened, opened)
    write_jsonl(out, map(short, counted))
    told = [f"{out}:", *counted.lines(), write_columns(counted.columns, out.parent)]
    print("\n".join(escaped(line) for line in told if line))
