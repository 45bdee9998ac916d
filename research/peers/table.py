"""Ours and its peers side by side: each kind of logs and each size is a row; the best of a row is bold."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from research.markers import write_between_markers
from research.options import numbers
from research.peers.cache import Case, ResultCache, kinds_of
from research.peers.training import BASELINES, OURS, PEERS, Row, in_order, measure, read
from research.side_by_side import side_by_side
from worldmodel.core import params
from worldmodel.core.errors import run
from worldmodel.core.jobs import VARIABLE as JOBS
from worldmodel.core.options import PATH, params_option
from worldmodel.core.text import markdown_cell
from worldmodel.numerics import setup
from worldmodel.sweeps.results import markdown_table

COLUMNS = (*BASELINES, *PEERS, OURS)
SHOWN = [f"{split} {mark}" for split in ("test", "val") for mark in ("mean", "h1", "h8", "h16")]

Results = Mapping[Case, Mapping[str, Row]]  # a case's rows by model; what has not run is not there


@click.command()
@click.option("--logs", type=PATH, multiple=True, required=True, help="A log file, or a folder of them.")
@click.option("--sizes", callback=numbers(int), default="16,256", show_default=True, help="Train episodes; 0 = all.")
@click.option("--models", default=",".join([OURS, *PEERS]), show_default=True, help="Those to train.")
@click.option("--seconds", type=float, help="Of the processor, for each peer; else what ours took.")
@click.option("--seed", default=0, show_default=True, help="Added to the seeds of the params.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, each on one thread.")
@click.option("--cache", type=PATH, default=Path("runs/peers"), show_default=True, help="Folder for results.")
@click.option("--out", type=PATH, default=Path("docs/results.md"), help="File with the table's markers.")
@params_option
def command(
    logs: tuple[Path, ...],
    sizes: list[int],
    models: str,
    seconds: float | None,
    seed: int,
    jobs: int,
    cache: Path,
    out: Path,
    params_file: Path,
) -> None:
    """Train ours and five published models on each log file, all for the same time (hours).

    Ours takes the steps that the params name; each peer is then trained for the seconds that ours took, teacher and
    dreams counted. All numbers are the params' but those that a peer's paper gives. Call it again after anything went
    wrong: only what is missing is run.
    """
    requested = models.split(",")
    if unknown := sorted(set(requested) - {*PEERS, OURS}):
        raise click.UsageError(f"--models: found {', '.join(unknown)}; expected {', '.join([*PEERS, OURS])}.")
    if seconds is None and OURS not in requested:
        raise click.UsageError(f"--models has no {OURS}, whose seconds the peers get: add it, or say --seconds.")
    settings = params.load(params_file, params.Params)
    settings = replace(settings, train=replace(settings.train, device="cpu"))  # where one clock counts for all
    results = ResultCache(cache, settings, seconds)
    cases = [Case(kind, path, size, seed) for kind, path in kinds_of(logs).items() for size in sizes]
    print("\n".join(markdown_table([["case", *SHOWN, "CPU seconds", "updates"]])), flush=True)
    list(side_by_side(fill_case, [(results, requested, case) for case in cases], jobs))
    rows = {case: {name: row for name in COLUMNS if (row := results.get(case, name))} for case in cases}
    write_between_markers(out, markdown(rows, seconds), "peers")
    print(f"table in {out}")


def fill_case(cache: ResultCache, models: Sequence[str], case: Case) -> None:
    """Measure what is missing."""
    settings = cache.settings
    os.environ[JOBS] = "1"  # the clock counts this process alone
    setup.configure(settings.train)
    missing = [name for name in in_order(models) if cache.get(case, name) is None]
    if not missing:
        return
    logs = read(case.logs, replace(settings.prepare, train_episodes=case.size), settings.normalize)
    if len(logs.train) < case.size:
        raise ValueError(
            f"{case.logs}: {len(logs.train)} train episodes, --sizes has {case.size}; record more or take fewer"
        )
    for name in missing:
        row = measure(name, logs, settings, cache.seconds_of(case), case.seed)
        cache.put(case, name, row)
        values = [row[split].get(mark) for split, mark in map(str.split, SHOWN)]
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        case_name = f"{markdown_cell(case.kind)}, {case.size or 'all'}, {name}"
        print(f"| {case_name} | {' | '.join(cells)} | {row['seconds']:.0f} | {row['updates']} |", flush=True)


def markdown(results: Results, seconds: float | None) -> str:
    """`seconds`: what each peer got; None: what ours took."""
    head = ("logs", "train episodes", *COLUMNS, "ours against the best other")
    table = markdown_table([head, *(_line(case, rows) for case, rows in results.items())])
    return "\n".join([*table, "", *(f"- {note}" for note in _notes(results, seconds))])


def _line(case: Case, rows: Mapping[str, Row]) -> tuple[str, ...]:
    lowest = min((_error(row) for row in rows.values()), default=None)
    cells = [_cell(rows.get(name), lowest) for name in COLUMNS]
    return (markdown_cell(case.kind), str(case.size or "all"), *cells, _against(rows))


def _cell(row: Row | None, lowest: float | None) -> str:
    if row is None:
        return "-"
    error = _error(row)
    text = f"{error:.4f}" if error >= 0.001 else f"{error:.2g}"
    text = f"**{text}**" if error == lowest else text
    return f"{text} ({row['seconds']:.0f} s)" if row["updates"] else text


def _change(rows: Mapping[str, Row]) -> tuple[float, str] | None:
    """Of ours against the best other model, which is named."""
    others = {name: _error(row) for name, row in rows.items() if name != OURS}
    if OURS not in rows or not others:
        return None
    best = min(others, key=others.__getitem__)
    return _error(rows[OURS]) / others[best] - 1, best


def _against(rows: Mapping[str, Row]) -> str:
    change = _change(rows)
    if change is None:
        return "-"
    text = f"{100 * change[0]:+.1f} % ({change[1]})"
    return text if change[0] < 0 else f"**BEHIND: {text}**"


def _notes(results: Results, seconds: float | None) -> list[str]:
    changes = {f"{case.kind} with {case.size or 'all'}": _change(rows) for case, rows in results.items()}
    compared = {name: change[0] for name, change in changes.items() if change is not None}
    lost = [name for name, change in compared.items() if change >= 0]
    missing = len(results) * len(COLUMNS) - sum(len(rows) for rows in results.values())
    share = "as many as ours took" if seconds is None else f"{seconds:g}"
    notes = [
        "Open-loop mean squared error in standardized units on test episodes; in brackets seconds of the processor: "
        f"ours counts teacher, dreams and training, each peer gets {share}. Evaluations on val episodes, by which all "
        "of them choose their weights, are not counted.",
    ]
    if compared:
        unless = f"; not in {', '.join(lost)}" if lost else ""
        notes.append(f"Ours is the lowest in {len(compared) - len(lost)} of {len(compared)} rows{unless}.")
    return notes + ([f"{missing} of {len(results) * len(COLUMNS)} measurements are missing."] if missing else [])


def _error(row: Row) -> float:
    error: float = row["test"]["mean"]
    return error


if __name__ == "__main__":
    run(command)
