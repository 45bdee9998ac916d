"""What a comparison comes to, as JSON and as lines to read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worldmodel.control import comparison
from worldmodel.control.episodes import PLANNER, Case, Played
from worldmodel.control.run import Run
from worldmodel.core.tables import six_digits

SHOWN = 4  # plans of the trace


def record(run: Run, seeds: Sequence[int]) -> dict[str, Any]:
    """The same for the same run but for `decide_ms`, whose times a clock tells; of a budget of time, too."""
    returns = {row: np.array([played[seed].returned for seed in seeds]) for row, played in run.rows.items()}
    logged = comparison.logged_rows(run.logged.returns(run.case.steps)) if run.logged else {}
    model, own = run.case.model, run.rows[PLANNER]
    rows = comparison.rows_of(returns) | logged
    return {
        "run_id": model.run_id,
        "env": run.case.env,
        "env_kwargs": dict(run.case.env_kwargs),
        "seed": run.case.seed,
        "episodes": len(seeds),
        "steps": run.case.steps,
        "planner": settings(run.case) | {"decide_ms": _decide_ms([own[seed] for seed in seeds])},
        "rows": {name: rows[name] for name in comparison.ORDER if name in rows},
        "score": comparison.score(returns),
        "leads": comparison.leads(returns, logged),
        "starts": list(seeds),
        "notes": run.notes,
        "trace": _trace(run, own[seeds[0]]),
    }


def settings(case: Case) -> dict[str, Any]:
    """Of the planner, those that are numbers."""
    planner = case.planning_in(case.model)
    told = {name: value for name, value in vars(planner).items() if isinstance(value, int | float) and name[0] != "_"}
    return told | {"value": planner.valued is not None}


def lines(found: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    planner, share = found["planner"]["decide_ms"], found["score"]
    told = [
        f"{found['env']}, bundle {found['run_id']}: {found['episodes']} episodes of {found['steps']} frames at most",
        *comparison.table(found["rows"], found["leads"]).splitlines(),
        "",
        f"a decision takes {planner['p50']:.3g} ms (P50), {planner['p99']:.3g} ms (P99)",
    ]
    if share:
        told.append(
            f"{share['mean']:.3g} of the way from random to the oracle, {share['low']:.3g} .. {share['high']:.3g}"
        )
    return [*told, comparison.verdict(found["leads"]), *(f"note: {note}" for note in found["notes"])]


def _decide_ms(episodes: Sequence[Played]) -> dict[str, float]:
    times = 1e3 * np.concatenate([each.decided_s for each in episodes])
    return {f"p{share}": six_digits(float(np.percentile(times, share))) for share in (50, 99)}


def _trace(run: Run, played: Played) -> dict[str, Any]:
    """An episode of the planner, and some of its plans."""
    shown = np.unique(np.linspace(0, len(played.rewards), SHOWN, endpoint=False).astype(int)).tolist()
    first = [(each.reward, each.disagreement) for each in played.expected]
    predicted, disagreement = (
        [float(each[0]) for each in column if each is not None] for column in zip(*first, strict=True)
    )
    return {
        "seconds_per_frame": run.interval_s,
        "feature_names": list(run.case.model.feature_names),
        "features": _digits(played.features),
        "reward": _digits(played.rewards),
        "predicted_reward": _digits(predicted) if predicted else None,
        "disagreement": _digits(disagreement) if disagreement else None,
        "plans": [
            {"at": at, "features": _digits(played.expected[at].features), "std": _digits(played.expected[at].std)}
            for at in shown
        ],
    }


def _digits(values: Any) -> Any:
    """Nested lists of numbers, six significant digits each."""
    if np.ndim(values):
        return [_digits(each) for each in values]
    return six_digits(float(values))
