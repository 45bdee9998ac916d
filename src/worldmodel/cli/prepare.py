"""Mix logs and dreams into one data set without DVC: NPZ files, LMDB shards, or one canonical JSONL with fixed splits.

What is not given on the command line comes from params.yaml's prepare section.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from worldmodel.cli.section_options import overridden, section_options
from worldmodel.core.options import PATH
from worldmodel.core.params import IngestParams, PrepareStage, load
from worldmodel.core.project import default_params
from worldmodel.logs.files import Location, location
from worldmodel.logs.reader import write_jsonl
from worldmodel.stages.prepare import gather, prepare


def mix(logs: Location, dreams: Location | None, out: Path, intake: IngestParams) -> Path:
    """Write out/dataset.jsonl, in which meta.split fixes what the split decided; returns its path."""
    found, splits = gather(logs, dreams, out, intake, lambda episode: episode)
    kept = [
        replace(episode, split=split)
        for episode, split in zip(found.episodes, splits, strict=True)
        if split is not None
    ]
    path = out / "dataset.jsonl"
    write_jsonl(path, kept)
    print(f"{path}: {len(kept)} of {len(found.episodes)} episodes; rejected {len(found.rejects)} of {found.rows} rows")
    return path


@click.command()
@click.option("--logs", type=location, required=True, help="Folder of .jsonl and .jsonl.gz files, or s3://...")
@click.option("--dreams", type=location, help="Folder, or one file.")
@click.option("--out", type=PATH, required=True, help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["npz", "lmdb", "jsonl"]), default="npz", show_default=True)
@click.option("--params", "params_file", type=PATH, help="File of params.  [default: params.yaml]")
@section_options(IngestParams, "prepare")
def command(
    logs: Location, dreams: Location | None, out: Path, form: str, params_file: Path | None, **given: Any
) -> None:
    """Mix logs and dreams into one data set without DVC.

    NPZ files, LMDB shards, or one canonical JSONL in which meta.split fixes the split. What is not given stands in the
    prepare section of params.yaml.
    """
    own = load(params_file or default_params(), PrepareStage).prepare
    if form == "jsonl":
        mix(logs, dreams, out, overridden(own, given))
    else:
        prepare(logs, dreams, out, overridden(own, given | {"format": form}))
