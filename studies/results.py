"""From rows of episodes.csv to one line for each log size and arm."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from grid import DEFAULT, REPEAT, Run
from intervals import Change, Doubles, change, mean_error

Rows = Sequence[Mapping[str, str]]
Key = tuple[str, str, str]  # split, agent_id, episode
Found = dict[Key, tuple[int, float]]  # windows, error
BASE, TEACHER, RIDGE = "rho 0", "teacher", "linear"


@dataclass(frozen=True)
class Measured:
    """What one run left behind."""

    run: Run
    rows: Rows
    rare: float  # error over the rarest test windows
    realism: float | None


@dataclass(frozen=True)
class Line:
    size: int
    arm: str
    rho: float | None  # None where there is no share of dreams to speak of
    seeds: int
    val: float
    test: float
    rare: float | None
    realism: float | None
    val_change: Change | None  # against rho 0
    test_change: Change | None
    against_repeat: Change | None  # on test episodes


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


def lines(measured: Iterable[Measured], teachers: Mapping[str, Rows]) -> list[Line]:
    """Sizes from few logs to all; arms as they were run, then the teacher. `teachers`: rows by Run.dreams."""
    given = list(measured)
    sizes = sorted({each.run.size for each in given}, key=lambda size: size or np.inf)
    return [
        line for size in sizes for line in _of_size(size, [each for each in given if each.run.size == size], teachers)
    ]


def _of_size(size: int, given: Sequence[Measured], teachers: Mapping[str, Rows]) -> list[Line]:
    errors: dict[str, dict[int, Found]] = {}
    for each in given:
        errors.setdefault(each.run.arm.name, {})[each.run.seed] = by_key(each.rows)
        if each.run.dreams in teachers:
            errors.setdefault(TEACHER, {})[each.run.seed] = by_key(teachers[each.run.dreams])
    shares = {each.run.arm.name: each.run.arm.rho for each in given}
    order = sorted(errors, key=lambda arm: (arm == TEACHER, arm == REPEAT, arm == DEFAULT, shares.get(arm, 0.0)))
    return [
        _line(size, arm, errors, shares.get(arm), [each for each in given if each.run.arm.name == arm]) for arm in order
    ]


def _line(
    size: int, arm: str, errors: Mapping[str, Mapping[int, Found]], rho: float | None, own: Sequence[Measured]
) -> Line:
    found = errors[arm]
    realism = [each.realism for each in own if each.realism is not None]
    return Line(
        size,
        arm,
        rho,
        len(found),
        mean_of(found, "val"),
        mean_of(found, "test"),
        mean(each.rare for each in own) if own else None,
        mean(realism) if realism else None,
        None if arm == BASE else _change(found, errors.get(BASE, {}), "val"),
        None if arm == BASE else _change(found, errors.get(BASE, {}), "test"),
        None if arm == REPEAT else _change(found, errors.get(REPEAT, {}), "test"),
    )


def mean_of(found: Mapping[int, Found], split: str) -> float:
    errors, weight = matrix([found[seed] for seed in sorted(found)], split)
    return mean_error(errors, weight) if len(weight) else float("nan")


def _change(found: Mapping[int, Found], base: Mapping[int, Found], split: str) -> Change | None:
    """Paired by the seeds that both have; None where there are none, or nothing is held out."""
    seeds = sorted(set(found) & set(base))
    if not seeds:
        return None
    both, weight = matrix([each[seed] for each in (found, base) for seed in seeds], split)
    return change(both[: len(seeds)], both[len(seeds) :], weight) if len(weight) else None
