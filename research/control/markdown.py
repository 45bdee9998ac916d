"""Results as tables: for each kind of logs one, with a column for each environment and a line for each row."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.control import statistics
from research.control.cases import Case
from research.control.rows import CLONED, HOLD, MINE, NAMES, ORACLE, OURS, RANDOM, Result, Row
from research.control.statistics import Estimate
from worldmodel.control.comparison import SETS, SOLVED
from worldmodel.core.tables import write_csv
from worldmodel.core.text import markdown_cell
from worldmodel.core.typing import Doubles
from worldmodel.sweeps.results import markdown_table

Results = Mapping[Case, Mapping[str, Result]]  # a case's results by row; what has not run is not there
Group = Mapping[str, dict[int, list[float]]]  # row -> seed -> return of each start
HEADER = ("env", "logs", "row", "seeds", "return", "low", "high", "ours_minus", "minus_low", "minus_high")
MEDIANS = ("training_seconds", "decide_ms")
TITLES = {CLONED: "behaviour cloning", "logs": "best agent of the logs", OURS: "**ours**"}
NOTES = (
    "Mean return; in brackets 95 % of 10,000 bootstrap draws over seeds and starts. Bold: the best but the oracle. "
    "Every row of a column is measured from the same starts, apart from those of the logs.",
    "*policy alone*: ours without plans; *plans alone*: without the value. *oracle*: plans alone in the simulator. "
    "*pets* to *tdmpc2*: the same in that model, with "
    "rewards and endings judged by one network for all of them, *rssm* with one rollout of a plan.",
    "*td3+bc*, *iql*, *cql*: d3rlpy's; *cql* where actions are discrete. What learns gets the CPU-seconds of ours.",
    "*first*, *BEHIND*: of the interval, and of each of three disjoint sets of starts. *way*: how far ours comes from "
    "random actions to the oracle. *solved*: starts from which doing nothing comes 95 % of it.",
)


def groups(found: Results) -> Mapping[Case, Group]:
    """What seeds are averaged over, in the order of the cases."""
    together: dict[Case, dict[str, dict[int, list[float]]]] = {}
    for case, rows in found.items():
        own = together.setdefault(case.group, {})
        for name, result in rows.items():
            own.setdefault(name, {})[case.seed] = result["returns"]
    return together


def paired(group: Group, *names: str) -> list[Doubles] | None:
    """Returns [S, N] of the seeds that all of these rows have; None where there is none."""
    shared = sorted(set.intersection(*(set(group.get(name, {})) for name in names)))
    return [np.array([group[name][seed] for seed in shared]) for name in names] if shared else None


def against(group: Group, name: str) -> Estimate | None:
    """Ours minus the other."""
    both = paired(group, OURS, name)
    return None if both is None or name == OURS else statistics.difference(*both)


def best_other(group: Group) -> str | None:
    means = {name: np.mean(list(seeds.values())) for name, seeds in group.items() if name not in (*MINE, ORACLE)}
    return max(means, key=lambda name: means[name]) if means else None


def way(group: Group) -> Estimate | None:
    several = paired(group, OURS, RANDOM, ORACLE)
    return None if several is None else statistics.share(*several)


def tables(found: Results, names: Sequence[str]) -> str:
    together = groups(found)
    parts = []
    for logs in dict.fromkeys(case.name for case in together):
        columns = {case.env: group for case, group in together.items() if case.name == logs}
        parts += [f"**{logs.replace('-', ', ')} episodes**", "", *_table(columns, names), ""]
    missing = sum(name not in group for group in together.values() for name in names)
    return "\n".join([*parts, *(f"- {note}" for note in NOTES), *_counted(together, missing, len(names))])


def _table(columns: Mapping[str, Group], names: Sequence[str]) -> list[str]:
    lines = [["", *map(markdown_cell, columns)]]
    for name in (name for name in NAMES if name in names):
        lines.append([TITLES.get(name, name), *(_cell(group, name) for group in columns.values())])
    lines.append(["ours minus the best other", *(_lead(group, best_other(group)) for group in columns.values())])
    lines.append(["ours minus behaviour cloning", *(_lead(group, CLONED) for group in columns.values())])
    lines.append(["way", *(_shown(way(group), 2) for group in columns.values())])
    lines.append(["solved", *(_solved(group) for group in columns.values())])
    return markdown_table(lines)


def _cell(group: Group, name: str) -> str:
    if name not in group:
        return "-"
    estimate = statistics.mean(np.array(list(group[name].values())))
    best = best_other(group)
    own = np.mean(list(group.get(OURS, {0: [-np.inf]}).values()))
    highest = max(own, np.mean(list(group[best].values())) if best else -np.inf)
    text = _shown(estimate)
    return f"**{text}**" if name != ORACLE and estimate.value == highest else text


def _lead(group: Group, other: str | None) -> str:
    both = paired(group, OURS, other) if other else None
    if both is None:
        return "-"
    lead, apart = statistics.difference(*both), both[0] - both[1]
    sets = [float(apart[:, first::SETS].mean()) for first in range(min(SETS, apart.shape[1]))]
    ahead, behind = min(lead.low, *sets) > 0, max(lead.high, *sets) < 0
    verdict = "first" if ahead else "**BEHIND**" if behind else "level"
    return f"{verdict}: {_shown(lead, sign='+')} ({other})"


def _solved(group: Group) -> str:
    several = paired(group, HOLD, RANDOM, ORACLE)
    if several is None:
        return "-"
    held, random, best = several
    easy = held - random.mean() >= SOLVED * (best - random.mean())
    return f"{int(easy.sum())} of {easy.size}"


def _shown(estimate: Estimate | None, digits: int | None = None, sign: str = "") -> str:
    if estimate is None:
        return "-"
    if digits is None:
        digits = 0 if abs(estimate.value) >= 100 else 1
    value, low, high = (f"{each:{sign}.{digits}f}" for each in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def _counted(together: Mapping[Case, Group], missing: int, asked: int) -> Iterable[str]:
    leads = [against(group, best) for group in together.values() if (best := best_other(group))]
    known = [lead for lead in leads if lead]
    if known:
        first, surely = (
            sum(value > 0 for value in values) for values in zip(*((x.value, x.low) for x in known), strict=True)
        )
        yield f"- Ours is first in {first} of {len(known)} columns, in {surely} of them beyond chance."
    if missing:
        yield f"- {missing} of {len(together) * asked} cells have no result, yet or for this kind of actions."


def rho_table(found: Results, arms: Sequence[Row]) -> str:
    """The first arm against each other one, paired."""
    base, *others = (arm.name for arm in arms)
    head = ["", "train episodes", "seeds", base, *(part for name in others for part in (name, f"{name} minus {base}"))]
    lines = [head]
    for case, group in groups(found).items():
        cells = [markdown_cell(case.env), str(case.train_episodes or "all"), str(len(group.get(base, {})))]
        for name in (base, *others):
            cells.append(_shown(statistics.mean(np.array(list(group[name].values())))) if name in group else "-")
            if name != base:
                both = paired(group, name, base)
                cells.append(_shown(statistics.difference(*both) if both else None, sign="+"))
        lines.append(cells)
    note = "- Mean return of the same planner on models of logs of the eight agents, and the paired difference; in "
    return "\n".join([*markdown_table(lines), "", f"{note}brackets 95 % of 10,000 draws over seeds and starts."])


def write_rows(path: Path, found: Results) -> None:
    """All of it, a line for each environment, logs and row."""
    write_csv(
        path,
        (*HEADER, *MEDIANS),
        (line for case, group in groups(found).items() for line in _lines(case, group, found)),
    )


def _lines(case: Case, group: Group, found: Results) -> Iterable[Sequence[object]]:
    for name, seeds in group.items():
        estimate, lead = statistics.mean(np.array(list(seeds.values()))), against(group, name)
        own = [rows[name] for each, rows in found.items() if each.group == case and name in rows]
        spent = [_median([result["training"].get("seconds") for result in own]), _median([x["decide_ms"] for x in own])]
        minus = (lead.value, lead.low, lead.high) if lead else (None, None, None)
        yield (case.env, case.name, name, len(seeds), estimate.value, estimate.low, estimate.high, *minus, *spent)


def _median(values: Sequence[Any]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None
