"""Mix logs and dreams into one data set without DVC."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from worldmodel.cli.section_options import overridden, section_options
from worldmodel.core.locking import writing
from worldmodel.core.options import PATH
from worldmodel.core.params import IngestParams, read
from worldmodel.core.project import default_params
from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeStore
from worldmodel.logs.described import write_columns
from worldmodel.logs.files import Location, location
from worldmodel.logs.ingest import ingest
from worldmodel.logs.rejects import REJECTS, write_rejects
from worldmodel.logs.writing import write_jsonl
from worldmodel.stages.prepare import prepare, sources


def mix(logs: Location, dreams: Location | None, out: Path, intake: IngestParams) -> Path:
    """Write out/dataset.jsonl, in which meta.split names each episode's split; returns its path."""
    path = out / "dataset.jsonl"
    with EpisodeStore.within(out) as store:
        found = ingest(sources(logs, dreams), intake, store.add, out / REJECTS)
        write_rejects(out / REJECTS, found.rejects)
        kept = [pair for pair in zip(found.episodes, found.splits, strict=True) if pair[1] is not None]
        write_jsonl(path, (replace(episode.whole(), split=split) for episode, split in kept))
    print(f"{path}: {len(kept)} of {len(found.episodes)} episodes; rejected {len(found.rejects)} of {found.rows} rows")
    if told := write_columns(found.columns, out):
        print(escaped(told))
    return path


@click.command()
@click.option("--logs", type=location, required=True, help="Folder of .jsonl and .jsonl.gz files, or s3://...")
@click.option("--dreams", type=location, help="Folder, or one file.")
@click.option("--out", type=PATH, required=True, help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["npz", "lmdb", "jsonl"]), default="npz", show_default=True)
@click.option("--params", "params_file", type=PATH, help="File of params.  [default: params.yaml]")
@section_options(IngestParams, "prepare")
def command(
    logs: Location, dreams: Location | None, out: Path, form: str, params_file: Path | None, **options: Any
) -> None:
    """Mix logs and dreams into one data set without DVC.

    NPZ files, LMDB shards, or one canonical JSONL in which meta.split names the split. Options that are not given come
    from the prepare section of params.yaml.
    """
    own = read(params_file or default_params()).prepare
    if form == "jsonl":
        with writing(out):
            mix(logs, dreams, out, overridden(own, options))
    else:
        prepare(logs, dreams, out, overridden(own, options | {"format": form}))
