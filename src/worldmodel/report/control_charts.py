"""The charts of runs in a simulator."""

from collections.abc import Iterator, Sequence

import numpy as np
from markupsafe import Markup

from worldmodel.core.typing import Doubles, Ints
from worldmodel.report.canvas import LOW, WIDE, Canvas
from worldmodel.report.controlled import Controlled, Plan, Trace
from worldmodel.report.wording import number


def return_along(run: Controlled) -> Iterator[Markup]:
    """Rewards of the episode as they came, and as each was predicted when its action was chosen; and summed."""
    trace = run.trace
    series = {"got": trace.reward} | ({"predicted": trace.predicted_reward} if trace.predicted_reward else {})
    for title, y_label, values in (
        ("Reward of each frame", "reward", {name: np.array(each) for name, each in series.items()}),
        ("Return so far", "sum of rewards", {name: np.cumsum(each) for name, each in series.items()}),
    ):
        canvas = Canvas(*_time(trace, y_label), WIDE)
        for name, ys in values.items():
            canvas.line(_times(trace, np.arange(1, len(ys) + 1)), ys, {"got": "real"}.get(name, "model"), name)
        canvas.axes.margins(x=0)
        ends = ", ".join(f"{name} {number(float(ys[-1]))}" for name, ys in values.items())
        yield canvas.figure(title, f"Line chart, {title.lower()}; at the end: {ends}.")


def disagreement_along(run: Controlled) -> Markup | None:
    """None where the model tells of none."""
    trace = run.trace
    if not trace.disagreement:
        return None
    canvas = Canvas(*_time(trace, "disagreement of the next frame"), WIDE)
    canvas.line(_times(trace, np.arange(len(trace.disagreement))), trace.disagreement, "model")
    canvas.axes.set_ylim(bottom=0)
    canvas.axes.margins(x=0)
    most = number(max(trace.disagreement))
    return canvas.figure("Disagreement", f"Line chart of the disagreement along the run, {most} at most.")


def plan_and_came(run: Controlled, plan: Plan, features: Sequence[int]) -> Iterator[Markup]:
    """What a plan expected of some features, and what came."""
    trace, came, ahead = run.trace, np.array(run.trace.features), plan.at + 1 + np.arange(len(plan.features))
    shown = np.arange(max(0, plan.at - len(ahead) // 2), min(len(came), plan.at + 1 + len(ahead)))
    for feature in features:
        canvas = Canvas(*_time(trace, "raw units"), LOW)
        expected, std = np.array(plan.features)[:, feature], np.array(plan.std)[:, feature]
        canvas.band(_times(trace, ahead), expected - std, expected + std, "model", "\N{PLUS-MINUS SIGN} std")
        canvas.line(_times(trace, shown), came[shown, feature], "real", "came")
        canvas.line(_times(trace, ahead), expected, "model", "planned")
        canvas.axes.margins(x=0)
        title = trace.name(feature)
        yield canvas.figure(title, f"Line chart of {title}: what the plan of frame {plan.at} expected, and what came.")


def _time(trace: Trace, y_label: str) -> tuple[str, str]:
    return "seconds" if trace.seconds_per_frame else "frame of the episode", y_label


def _times(trace: Trace, frames: Ints) -> Doubles:
    return frames.astype(np.float64) * (trace.seconds_per_frame or 1.0)
