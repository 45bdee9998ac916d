"""CSV files behind `dvc plots`, tables to look at, and numbers as every text file has them: six significant digits."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from worldmodel.core.atomic import replacing
from worldmodel.core.text import csv_label, escaped, from_csv_label


def six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def rounded(value: Any) -> Any:
    """Floats in nested dicts with six significant digits. Raises ValueError for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a metric is {value}, expected a finite number")
    return six_digits(value) if isinstance(value, float) else value


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Whole or not at all; floats with six significant digits, texts as `csv_label` has them."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(csv_label, header))
        writer.writerows(map(_cell, row) for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return csv_label(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def read_csv(text: str) -> list[dict[str, str]]:
    """What `write_csv` has written, with texts as they were. Raises ValueError where it is no table."""
    try:
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from None
    return [{key: from_csv_label(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they have to be."""
    lines = [list(header), *([escaped(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
