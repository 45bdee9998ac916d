"""Models side by side as Markdown: the best of each row in bold, and where ours is not it."""

from collections.abc import Mapping

from research.peers.cells import Cell
from research.peers.measuring import FLOORS, OURS, PEERS, Row

Found = Mapping[Cell, Mapping[str, Row]]  # a cell's rows by model; what has not run is not there
COLUMNS = (*FLOORS, *PEERS, OURS)
HEAD = ("logs", "train episodes", *COLUMNS, "ours against the best other")
MISSING = "-"
SMALL = 0.001  # below it, digits count from the first that is not 0


def markdown(found: Found, seconds: float | None) -> str:
    """`seconds`: what each peer got; None: what ours took."""
    rows = [HEAD, ("---",) * len(HEAD), *(_line(cell, rows) for cell, rows in found.items())]
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*table, "", *(f"- {note}" for note in _notes(found, seconds))])


def best_other(rows: Mapping[str, Row]) -> str | None:
    """The best model but ours."""
    others = [name for name in rows if name != OURS]
    return min(others, key=lambda name: _error(rows[name])) if others else None


def behind(rows: Mapping[str, Row]) -> bool:
    """Is any other model as good as ours?"""
    other = best_other(rows)
    return OURS in rows and other is not None and _error(rows[other]) <= _error(rows[OURS])


def _line(cell: Cell, rows: Mapping[str, Row]) -> tuple[str, ...]:
    lowest = min((_error(row) for row in rows.values()), default=None)
    cells = [_cell(rows.get(name), lowest) for name in COLUMNS]
    return (cell.kind, str(cell.size or "all"), *cells, _against(rows))


def _cell(row: Row | None, lowest: float | None) -> str:
    if row is None:
        return MISSING
    value = _number(_error(row))
    told = f"**{value}**" if _error(row) == lowest else value
    return f"{told} ({row['seconds']:.0f} s)" if row["updates"] else told


def _against(rows: Mapping[str, Row]) -> str:
    other = best_other(rows)
    if OURS not in rows or other is None:
        return MISSING
    change = f"{100 * (_error(rows[OURS]) / _error(rows[other]) - 1):+.1f} % ({other})"
    return f"**BEHIND: {change}**" if behind(rows) else change


def _notes(found: Found, seconds: float | None) -> list[str]:
    full = {cell: rows for cell, rows in found.items() if OURS in rows and len(rows) > 1}
    lost = [f"{cell.kind} with {cell.size or 'all'}" for cell, rows in full.items() if behind(rows)]
    count = sum(len(rows) for rows in found.values())
    asked = len(found) * len(COLUMNS)
    given = "as many as ours took" if seconds is None else f"{seconds:g}"
    notes = [
        "Open-loop mean squared error in standardized units on test episodes; in brackets seconds of the processor: "
        f"ours counts teacher, dreams and training, each peer gets {given}. Looks at val episodes, by which all of "
        "them choose their weights, are not counted.",
    ]
    if full:
        unless = f"; not in {', '.join(lost)}" if lost else ""
        notes.append(f"Ours is the lowest in {len(full) - len(lost)} of {len(full)} rows{unless}.")
    return notes + ([f"{asked - count} of {asked} measurements are missing."] if count < asked else [])


def _error(row: Row) -> float:
    error: float = row["test"]["mean"]
    return error


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= SMALL else f"{value:.2g}"
