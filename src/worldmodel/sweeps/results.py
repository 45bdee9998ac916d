"""Errors of runs by episode, from rows of episodes.csv, and their mean over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from worldmodel.core.typing import Doubles
from worldmodel.evaluation.intervals import Change, mean_error

Rows = Sequence[Mapping[str, str]]
Key = tuple[str, str, str]  # split, agent_id, episode
Found = dict[Key, tuple[int, float]]  # windows, error


def by_key(rows: Rows, column: str = "model") -> Found:
    """Pieces of one episode count as one: windows summed up, errors weighted by them."""
    found: Found = {}
    for row in rows:
        key = row["split"], row["agent_id"], row["episode"]
        count, error = int(row["windows"]), float(row[column])
        before, so_far = found.get(key, (0, 0.0))
        found[key] = before + count, (before * so_far + count * error) / (before + count)
    return found


def matrix(found: Sequence[Found], split: str) -> tuple[Doubles, Doubles]:
    """Errors [S, N] of one split, and windows [N]. Raises ValueError where runs were measured on different episodes."""
    keys = sorted(key for key in found[0] if key[0] == split)
    for each in found:
        if sorted(key for key in each if key[0] == split) != keys:
            raise ValueError(f"runs were measured on different {split} episodes, expected the same in all")
    errors = np.array([[each[key][1] for key in keys] for each in found], float)
    return errors, np.array([found[0][key][0] for key in keys], float)


def mean_of(found: Mapping[int, Found], split: str) -> float:
    errors, weight = matrix([found[seed] for seed in sorted(found)], split)
    return mean_error(errors, weight) if len(weight) else float("nan")


def percent(found: Change | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.value:+.1f} % ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
