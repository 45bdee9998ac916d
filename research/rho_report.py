"""What a study found: a Markdown table between two markers of a file, and a CSV file of the same numbers."""

import math
from collections.abc import Sequence
from pathlib import Path

from research.rho_results import Line
from worldmodel.core.atomic import replacing
from worldmodel.core.tables import write_csv
from worldmodel.evaluation.intervals import Change
from worldmodel.sweeps.results import percent

BEGIN, END = "<!-- rho-study:begin -->", "<!-- rho-study:end -->"
HEADER = (
    "train episodes",
    "arm",
    "seeds",
    "error, val",
    "error, test",
    "rarest tenth, test",
    "val against rho 0",
    "test against rho 0",
    "test against repeat",
    "realism",
)


def markdown(found: Sequence[Line], title: str, notes: Sequence[str]) -> str:
    rows = [HEADER, ("---",) * len(HEADER), *(_cells(line) for line in found)]
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"**{title}**", "", *table, "", *(f"- {note}" for note in notes)])


def size_name(size: int) -> str:
    return str(size) if size else "all"


def _cells(line: Line) -> tuple[str, ...]:
    return (
        size_name(line.size),
        line.arm if line.arm.startswith("rho") or line.rho is None else f"{line.arm}, rho {line.rho:g}",
        str(line.seeds),
        _number(line.val),
        _number(line.test),
        _number(line.rare),
        percent(line.val_change),
        percent(line.test_change),
        percent(line.against_repeat),
        "-" if line.realism is None else f"{line.realism:.2f}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def write_between_markers(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """In place of what stands between them; a file without markers gets them at its end."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    block = f"{begin}\n\n{text}\n\n{end}"
    if begin in before and end in before:
        head, rest = before.split(begin, 1)
        whole = head + block + rest.split(end, 1)[1]
    else:
        whole = f"{before.rstrip()}\n\n{block}\n".lstrip()
    with replacing(path) as temporary:
        temporary.write_text(whole, encoding="utf-8")


def write_lines(path: Path, found: Sequence[Line]) -> None:
    header = ("train_episodes", "arm", "rho", "seeds", "val", "test", "rare")
    intervals = ("val_change", "test_change", "against_repeat")
    edges = tuple(f"{name}{edge}" for name in intervals for edge in ("", "_low", "_high"))
    write_csv(path, header + edges, (_row(line, intervals) for line in found))


def _row(line: Line, intervals: Sequence[str]) -> list[object]:
    cells: list[object] = [size_name(line.size), line.arm, line.rho, line.seeds, line.val, line.test, line.rare]
    for name in intervals:
        interval: Change | None = getattr(line, name)
        cells += [None] * 3 if interval is None else [interval.value, interval.low, interval.high]
    return cells
