"""Summarize logs, or list the rows that are wrong; nothing in their folder is changed."""

from pathlib import Path

import click

from worldmodel.core.options import PATH
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeStore
from worldmodel.logs.chunks import find_logs
from worldmodel.logs.files import Location, location
from worldmodel.logs.reader import collect_logs
from worldmodel.logs.rejects import SHOWN_REJECTS, by_reason
from worldmodel.logs.summary import summarize


def check(logs: Location, max_gap_s: float) -> tuple[bool, list[str]]:
    """Whether every row is good, and the lines to print. Raises ValueError where there is no row at all."""
    with temporary_folder() as folder, EpisodeStore.within(folder) as store:
        result = collect_logs([logs], max_gap_s, store.add)
        if not result.rejects:
            return True, summarize(result.episodes).lines(find_logs([logs]))
    shown = [str(reject) for reject in result.rejects[:SHOWN_REJECTS]]
    counts = [f"{count:>8} {reason}" for reason, count in by_reason(result.rejects)]
    return False, [*shown, "", f"{len(result.rejects)} of {result.rows} rows are wrong:", *counts]


@click.command()
@click.argument("logs", type=location)
@click.option("--params", "params_file", type=PATH, help="Where prepare.max_gap_s stands.  [default: params.yaml]")
def command(logs: Location, params_file: Path | None) -> None:
    """Say what LOGS hold, or which rows are wrong: a .jsonl or .jsonl.gz file, a folder of them, or s3://...

    Exit code 0 where every row is good, 1 where one is not or nothing can be read.
    """
    good, lines = check(logs, read(params_file or default_params()).prepare.max_gap_s)
    print("\n".join(map(escaped, lines)))
    if not good:
        raise SystemExit(1)
