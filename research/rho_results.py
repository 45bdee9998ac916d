"""From rows of episodes.csv to one line for each log size and arm."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from research.rho_grid import DEFAULT, REPEAT, Run
from worldmodel.evaluation.intervals import Change, change
from worldmodel.sweeps.results import Found, Rows, by_key, matrix, mean_of

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


def _change(found: Mapping[int, Found], base: Mapping[int, Found], split: str) -> Change | None:
    """Paired by the seeds that both have; None where there are none, or nothing is held out."""
    seeds = sorted(set(found) & set(base))
    if not seeds:
        return None
    both, weight = matrix([each[seed] for each in (found, base) for seed in seeds], split)
    return change(both[: len(seeds)], both[len(seeds) :], weight) if len(weight) else None
