"""logs, dreams -> prepared episodes (out/manifest.json, out/episodes/) and out/rejects.csv.

One rule: a row of the input becomes a frame of an episode or a line of rejects.csv; no transition crosses a hole.
"""

from dataclasses import replace
from pathlib import Path

import click

from worldmodel.core.atomic import publishing
from worldmodel.core.options import PATH, params_option
from worldmodel.core.params import Prepare, PrepareStage, load
from worldmodel.core.stage_run import begin
from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeStore, StoredEpisode
from worldmodel.logs.files import Location, location, log_files
from worldmodel.logs.ingest import Ingested, ingest
from worldmodel.logs.rejects import REJECTS, by_reason, write_rejects
from worldmodel.store.manifest import count
from worldmodel.store.prepared import OWN, Prepared, write_prepared

LIBRARIES = ("lmdb", "msgspec", "numpy")
SHOWN_AGENTS = 10


def prepare(logs: Location, dreams: Location | None, out: Path, settings: Prepare) -> Prepared:
    """Read, check and split all episodes, write them to `out` and print a summary; `dreams` may be an empty folder.

    Memory need not hold the episodes: they are stored on disk until the last row has decided what all have in common.
    Raises ValueError where the input is missing, has too many bad rows, or leaves a split empty.
    """
    with publishing(out, own=[*OWN, REJECTS]) as (folder,), EpisodeStore.shared(folder) as store:
        found = ingest(sources(logs, dreams), settings, store.add, out / REJECTS, beside=store.beside)
        write_rejects(folder / REJECTS, found.rejects)
        prepared = write_prepared(
            folder,
            found.episodes,
            found.splits,
            found.action_space,
            settings.format,
            found.columns,
            found.interval_s,
        )
        print(summary(prepared, found))
    return replace(prepared, folder=out)


def sources(logs: Location, dreams: Location | None) -> list[Location]:
    """Those that hold something: there may be no dreams yet."""
    return [logs, dreams] if dreams is not None and log_files(dreams) else [logs]


def summary(prepared: Prepared, result: Ingested[StoredEpisode]) -> str:
    """Episodes and frames by source and split and by agent (the first few), and what was left out or rejected."""
    counts = count(
        prepared,
        agent=lambda record: record.agent_id,
        kind=lambda record: f"{record.source}, {record.split}",
    )
    agents, lines = counts["agent"], _table("", counts["kind"])
    lines += _table("agent ", dict(list(agents.items())[:SHOWN_AGENTS]))
    if len(agents) > SHOWN_AGENTS:
        lines.append(f"... and {len(agents) - SHOWN_AGENTS} more agents")
    left_out = len(result.episodes) - len(prepared)
    lines += [f"left out by train_episodes: {left_out} episodes", *_rejected(result)]
    if result.margin:
        lines.append(f"left out by margin: {result.margin} frames")
    return "\n".join(map(escaped, lines))


def _table(prefix: str, counts: dict[str, dict[str, int]]) -> list[str]:
    return [f"{prefix}{name}: {each['episodes']} episodes, {each['frames']} frames" for name, each in counts.items()]


def _rejected(result: Ingested[StoredEpisode]) -> list[str]:
    counts = [f"  {count} {reason}" for reason, count in by_reason(result.rejects)]
    return [f"rejected: {len(result.rejects)} of {result.rows} rows", *counts]


@click.command(help="Check logs and dreams, split them, write one file an episode.")
@click.option("--logs", type=location, required=True, help="Folder, file or address (s3://bucket/folder).")
@click.option("--dreams", type=location, help="The same of dreams.")
@click.option("--out", type=PATH, required=True, help="Folder for episodes, manifest and rejects.")
@params_option
def command(logs: Location, dreams: Location | None, out: Path, params_file: Path) -> None:
    settings = load(params_file, PrepareStage)
    inputs = {name: path for name, path in (("logs", logs), ("dreams", dreams)) if path is not None}
    with begin("prepare", settings, inputs, LIBRARIES).record(params_file):
        prepare(logs, dreams, out, settings.prepare)
