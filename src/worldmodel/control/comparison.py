"""Returns of the rows against each other: means with intervals, how far the planner leads, and whether it is sure.

Dimension key: N starts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.control.episodes import CLONED, HOLD, ORACLE, PLANNER, POLICY, RANDOM
from worldmodel.core.tables import aligned, six_digits
from worldmodel.core.typing import Doubles
from worldmodel.evaluation.intervals import Means, means

SETS = 3  # of starts, disjoint
SOLVED = 0.95  # of the way from random to the oracle: doing nothing from such a start leaves nothing to show
LOGS_MEAN, LOGS_BEST = "logs, mean", "logs, best agent"
OURS = (PLANNER, POLICY)
ORDER = (*OURS, ORACLE, RANDOM, HOLD, LOGS_MEAN, LOGS_BEST, CLONED)


def rows_of(returns: Mapping[str, Doubles]) -> dict[str, dict[str, Any]]:
    """By row, [N] returns each: mean, 95 % interval of a bootstrap over starts, and the returns."""
    return {row: _interval(each) | {"returns": _digits(each)} for row, each in returns.items()}


def logged_rows(by_agent: Mapping[str, Doubles]) -> dict[str, dict[str, Any]]:
    """Of all agents' episodes together, and of the agent whose mean is highest."""
    if not by_agent:
        return {}
    best = max(by_agent, key=lambda agent: float(by_agent[agent].mean()))
    told = {"agent": best, "episodes": len(by_agent[best])}
    every = np.concatenate(list(by_agent.values()))
    return {LOGS_MEAN: _interval(every) | {"episodes": len(every)}, LOGS_BEST: _interval(by_agent[best]) | told}


def leads(returns: Mapping[str, Doubles], logged: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of the planner over each floor: over rows with the same starts, paired; over the logs' mean as it is.

    `sets` are the leads within each of three disjoint sets of starts; `sure` says that the interval and all three are
    above 0.
    """
    own, found = returns[PLANNER], dict[str, dict[str, Any]]()
    floors = {row: own - each for row, each in returns.items() if row not in (*OURS, ORACLE)}
    for row, lead in (floors | {row: own - each["mean"] for row, each in logged.items()}).items():
        sets = [six_digits(float(lead[first::SETS].mean())) for first in range(min(SETS, len(lead)))]
        found[row] = _interval(lead) | {"sets": sets}
        found[row]["sure"] = len(sets) == SETS and min(found[row]["low"], *sets) > 0
    return found


def score(returns: Mapping[str, Doubles]) -> dict[str, float] | None:
    """Share of the way from random to the oracle; None without an oracle, or where it is not surely above random."""
    way = returns[ORACLE] - returns[RANDOM] if ORACLE in returns else np.zeros(1)
    if _interval(way)["low"] <= 0:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of starts may hold no way at all
        found = _interval(returns[PLANNER] - returns[RANDOM], way)
    return found if np.isfinite(list(found.values())).all() else None


def solved(hold: Doubles, random: Doubles, best: Doubles) -> NDArray[np.bool_]:
    """From which starts [N] doing nothing gets all but as much as the best there is."""
    base = random.mean()
    found: NDArray[np.bool_] = (best > base) & (hold - base >= SOLVED * (best - base))
    return found


def verdict(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence."""
    if all(each["sure"] for each in found.values()):
        return f"the planner beats each of them, also within each of {SETS} sets of starts"
    told = [
        f"not surely {row} (sets of starts: {_signed(each['sets'])})" for row, each in found.items() if not each["sure"]
    ]
    beaten = [row for row, each in found.items() if each["sure"]]
    parts = [f"the planner beats {', '.join(beaten)}, in each of {SETS} sets of starts"] if beaten else []
    return "; ".join([*parts, *told])


def table(rows: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> str:
    header = ["row", "return", "95 % interval", "planner's lead", "95 % interval", "in each set of starts"]
    lines = []
    for row, each in rows.items():
        lead = found.get(row)
        of_lead = [f"{lead['mean']:+.5g}", _span(lead), _signed(lead["sets"])] if lead else [""] * 3
        lines.append([_named(row, each), f"{each['mean']:.5g}", _span(each), *of_lead])
    return aligned(header, lines)


def _named(row: str, each: Mapping[str, Any]) -> str:
    return f"{row} ({each['agent']})" if "agent" in each else row


def _span(each: Mapping[str, Any]) -> str:
    return f"{each['low']:.5g} .. {each['high']:.5g}"


def _signed(values: list[float]) -> str:
    return ", ".join(f"{value:+.4g}" for value in values)


def _interval(values: Doubles, weight: Doubles | None = None) -> dict[str, float]:
    ones = np.ones_like(values) if weight is None else weight
    found: Means = means(values[:, None], ones[:, None])
    return {
        name: six_digits(float(getattr(found, key)[0]))
        for name, key in (("mean", "value"), ("low", "low"), ("high", "high"))
    }


def _digits(values: Doubles) -> list[float]:
    return [six_digits(value) for value in values.tolist()]
