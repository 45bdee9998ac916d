"""Summarize logs, name rows that are wrong, remark on what probably is; nothing in their folder is changed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import click

from worldmodel.core.options import PATH
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeStore
from worldmodel.linting.lint import Collector, unread_files
from worldmodel.linting.remark import Remark
from worldmodel.linting.remarks import Limits
from worldmodel.linting.summary import Summary
from worldmodel.logs.cutting import pieces
from worldmodel.logs.described import columns_of, fitted
from worldmodel.logs.files import Location, LogFile, location
from worldmodel.logs.ingest import named
from worldmodel.logs.reader import collect_logs
from worldmodel.logs.rejects import SHOWN_REJECTS, Reject, by_reason
from worldmodel.logs.split import by_time


@dataclass(frozen=True)
class Findings:
    """What a check of logs found out."""

    files: Sequence[LogFile]
    rows: int
    rejects: Sequence[Reject]
    lengths: Sequence[int]  # frames of each episode
    limits: Limits
    remarks: Sequence[Remark]
    unread: Sequence[str]
    summary: Sequence[str]

    def lines(self) -> list[str]:
        """As text."""
        if not self.remarks:
            return self.facts()
        count = "1 remark" if len(self.remarks) == 1 else f"{len(self.remarks)} remarks"
        return [*self.facts(), "", f"{count} on what is allowed and probably wrong:", *map(str, self.remarks)]

    def facts(self) -> list[str]:
        """The summary, or the rows that are wrong."""
        if not self.rejects:
            return list(self.summary)
        shown = [str(reject) for reject in self.rejects[:SHOWN_REJECTS]]
        counts = [f"{count:>8} {reason}" for reason, count in by_reason(self.rejects)]
        return [*shown, "", f"{len(self.rejects)} of {self.rows} rows are wrong:", *counts]

    def to_json(self) -> dict[str, Any]:
        usable = [length for length in self.lengths if length > self.limits.history]
        window = self.limits.history + self.limits.horizon
        return {
            "files": len(self.files),
            "frames": sum(self.lengths),
            "episodes": len(self.lengths),
            "usable_episodes": len(usable),
            "windows": sum(max(length - window, 0) + 1 for length in usable),
            "rejected": len(self.rejects),
            "errors": [reject._asdict() for reject in self.rejects],
            "remarks": list(map(asdict, self.remarks)),
            "unread_files": list(self.unread),
        }


def check(logs: Location, limits: Limits) -> Findings:
    """Read the logs once. Raises ValueError where there is no row at all, or features.yaml does not fit."""
    columns, intake = columns_of([logs]), limits.intake
    with temporary_folder() as folder, EpisodeStore.within(folder) as store, TemporaryFile(dir=folder) as stream:
        seen = Collector(limits, columns, cast(BinaryIO, stream))
        keep = store.add if intake.split_by == "time" else lambda _: None  # of the others nothing more is asked
        found = collect_logs([logs], intake.max_gap_s, keep, seen, missing=intake.missing)
        seen.end()
        columns = columns_of([logs], found.named.items())
        if any(facts.placed for facts in seen.facts.values()):
            columns = fitted(columns, found.feature_count, found.action_space, found.context_count)
        unread = unread_files(logs, found.files)
        rejects = [named(reject, columns) for reject in found.rejects]
        summary = [] if rejects else Summary(seen.facts, columns).lines(found.files)
        remarks = seen.remarks(columns, unread)
        lengths = [each.length for facts in seen.facts.values() for each in facts.placed]
        if intake.split_by == "time":
            parts = by_time(pieces(found.episodes, intake, columns, store.add), intake, store.add)
            lengths = [each.length for each in parts]
    return Findings(found.files, found.rows, rejects, lengths, limits, remarks, unread, summary)


@click.command()
@click.argument("logs", type=location)
@click.option("--params", "params_file", type=PATH, help="Where train.history stands.  [default: params.yaml]")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Exit code 1 also where there is a remark.")
def command(logs: Location, params_file: Path | None, form: str, strict: bool) -> None:
    """Say what LOGS hold, which rows are wrong, and what is probably wrong.

    LOGS is a log of lines (.jsonl, .gz, .zst) or of another format, a folder of them, or s3://... Exit code 0
    where every row is good, 1 where one is not or nothing can be read.
    """
    params = read(params_file or default_params())
    found = check(logs, Limits(params.prepare, params.train.history, params.train.horizon))
    print(json.dumps(found.to_json(), indent=1) if form == "json" else "\n".join(map(escaped, found.lines())))
    if found.rejects or (strict and found.remarks):
        raise SystemExit(1)
