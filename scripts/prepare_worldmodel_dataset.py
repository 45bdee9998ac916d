"""Mix logs and dreams into one data set without DVC: NPZ files, LMDB shards, or one canonical JSONL with fixed splits.

What is not given on the command line comes from params.yaml's prepare section.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from prepare import gather, prepare  # noqa: E402
from worldmodel.config.options import add_options, overridden  # noqa: E402
from worldmodel.config.params import Intake, PrepareStage, load  # noqa: E402
from worldmodel.data.logs import write_jsonl  # noqa: E402
from worldmodel.runtime import stage  # noqa: E402


def mix(logs: Path, dreams: Path | None, out: Path, intake: Intake) -> Path:
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, required=True, help="folder of .jsonl and .jsonl.gz files")
    parser.add_argument("--dreams", type=Path, help="folder, or one file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--format", choices=["npz", "lmdb", "jsonl"], default="npz")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    add_options(parser, Intake, "prepare")
    given = parser.parse_args(arguments)
    jsonl = given.format == "jsonl"
    given.format = None if jsonl else given.format
    settings = overridden(load(given.params, PrepareStage).prepare, given)
    (mix if jsonl else prepare)(given.logs, given.dreams, given.out, settings)


if __name__ == "__main__":
    stage.run(main)
