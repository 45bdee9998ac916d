"""Summarize logs, name rows that are wrong, remark on what probably is; nothing in their folder is changed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from worldmodel.core.options import PATH
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeStore, StoredEpisode
from worldmodel.linting.lint import Collector, lint, unread_files
from worldmodel.linting.remarks import Limits, Remark
from worldmodel.logs.copies import find_logs
from worldmodel.logs.files import Location, LogFile, location
from worldmodel.logs.reader import Logs, collect_logs
from worldmodel.logs.rejects import SHOWN_REJECTS, by_reason
from worldmodel.logs.summary import summarize


@dataclass(frozen=True)
class Findings:
    """What a check of logs found out."""

    files: list[LogFile]
    logs: Logs[StoredEpisode]
    limits: Limits
    remarks: list[Remark]
    unread: list[str]
    summary: list[str]

    def lines(self) -> list[str]:
        """As text."""
        if not self.remarks:
            return self.facts()
        count = "1 remark" if len(self.remarks) == 1 else f"{len(self.remarks)} remarks"
        return [*self.facts(), "", f"{count} on what is allowed and probably wrong:", *map(str, self.remarks)]

    def facts(self) -> list[str]:
        """The summary, or the rows that are wrong."""
        rejects = self.logs.rejects
        if not rejects:
            return self.summary
        shown = [str(reject) for reject in rejects[:SHOWN_REJECTS]]
        counts = [f"{count:>8} {reason}" for reason, count in by_reason(rejects)]
        return [*shown, "", f"{len(rejects)} of {self.logs.rows} rows are wrong:", *counts]

    def to_json(self) -> dict[str, Any]:
        lengths = [each.length for each in self.logs.episodes]
        usable = [length for length in lengths if length > self.limits.history]
        window = self.limits.history + self.limits.horizon
        return {
            "files": len(self.files),
            "frames": sum(lengths),
            "episodes": len(lengths),
            "usable_episodes": len(usable),
            "windows": sum(max(length - window, 0) + 1 for length in usable),
            "rejected": len(self.logs.rejects),
            "errors": [reject._asdict() for reject in self.logs.rejects],
            "remarks": [remark.to_json() for remark in self.remarks],
            "unread_files": self.unread,
        }


def check(logs: Location, limits: Limits) -> Findings:
    """Read the logs once. Raises ValueError where there is no row at all."""
    collector = Collector()
    with temporary_folder() as folder, EpisodeStore.within(folder) as store:
        result = collect_logs([logs], limits.max_gap_s, store.add, collector)
        files = find_logs([logs])
        unread = unread_files(logs, files)
        summary = [] if result.rejects else summarize(result.episodes).lines(files)
        return Findings(files, result, limits, lint(collector.logs(limits, unread)), unread, summary)


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
    found = check(logs, Limits(params.prepare.max_gap_s, params.train.history, params.train.horizon))
    print(json.dumps(found.to_json(), indent=1) if form == "json" else "\n".join(map(escaped, found.lines())))
    if found.logs.rejects or (strict and found.remarks):
        raise SystemExit(1)
