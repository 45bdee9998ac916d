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
from worldmodel.logs.files import Location, location
from worldmodel.logs.reader import write_jsonl
from worldmodel.logs.rejects import REJECTS, write_rejects
from worldmodel.stages.prepare import gather, prepare


def mix(logs: Location, dreams: Location | None, out: Path, intake: IngestParams) -> Path:
    """Write out/dataset.jsonl, in which meta.split names each episode's split; returns its path."""
    result, splits = gather(logs, dreams, out, intake, lambda episode: episode)
    pairs = zip(result.episodes, splits, strict=True)
    kept = [replace(episode, split=split) for episode, split in pairs if split is not None]
    path = out / "dataset.jsonl"
    write_rejects(out / REJECTS, result.rejects)
    write_jsonl(path, kept)
    print(
        f"{path}: {len(kept)} of {len(result.episodes)} episodes; rejected {len(result.rejects)} of {result.rows} rows"
    )
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
