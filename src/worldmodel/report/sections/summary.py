"""What a reader wants to know first: how good the model is against the floors, in a sentence, a picture and numbers."""

import numpy as np

from worldmodel.evaluation.intervals import Change, change
from worldmodel.report.markup import Html, join, missing, paragraph, tag
from worldmodel.report.material import Material
from worldmodel.report.outputs import Outputs, Rows
from worldmodel.report.sections.horizon import chart
from worldmodel.report.table import facts
from worldmodel.report.wording import counted, less, number, percent

FLOORS = {"linear": "ridge's", "persistence": "that of holding the last frame"}


def summary(material: Material) -> Html:
    outputs = material.outputs
    drawn = chart(material)
    return tag(
        "section",
        tag("div", _warning(material), _lead(outputs), class_="told"),
        tag(
            "div",
            drawn.render() if drawn else missing("The error along the horizon", "dvc repro validate"),
            class_="seen",
        ),
        tag("div", _how(outputs), _numbers(outputs), class_="measured"),
        class_="summary",
        aria_label="Summary",
    )


def _warning(material: Material) -> Html:
    if not material.stale:
        return Html()
    return paragraph(
        "dvc.lock does not belong to the files in this project: what follows is of an earlier state. Changed: ",
        "; ".join(f"{stage} ({', '.join(reasons)})" for stage, reasons in material.stale.items()),
        ". ",
        tag("code", "dvc repro"),
        " brings it up to date.",
        class_="warning",
    )


def _lead(outputs: Outputs) -> Html:
    error = outputs.metrics.get("mse.mean")
    if error is None:
        return missing("How good the model is", "make repro")
    changes = against_floors(outputs)
    if not changes:
        return join((paragraph(f"Error {number(error)}.", class_="lead"), missing("Intervals", "dvc repro validate")))
    tests = counted(len(_tests(outputs)), "held-out episode")
    horizon = max((int(row["frame"]) for row in outputs.plots.get("horizon", ())), default=0)
    where = f"Over the next {counted(horizon, 'frame')} of {tests}" if horizon else f"On {tests}"
    ridge, *others = (f"{less(found.value)} than {floor}" for floor, found in changes.items())
    ranges = [f" ({_range(found)})" for found in changes.values()]
    rest = (f" and {other}{within}" for other, within in zip(others, ranges[1:], strict=True))
    return paragraph(f"{where}, the model's error is ", tag("strong", ridge), ranges[0], *rest, ".", class_="lead")


def _how(outputs: Outputs) -> Html:
    tests = _tests(outputs)
    if not tests:
        return Html()
    agents = counted(len({row["agent_id"] for row in tests}), "agent")
    return paragraph(
        "Error: squared, open loop, in standardized units, mean over features, frames and windows. In brackets: 95 % "
        f"intervals, a bootstrap over the test episodes of {agents}. It is one training run: they do not tell what "
        "another seed would change.",
        class_="note",
    )


def against_floors(outputs: Outputs) -> dict[str, Change]:
    """Whose error -> how the model's differs from it on test episodes; empty where there are none."""
    tests = _tests(outputs)
    if not tests:
        return {}
    columns = {key: np.array([float(row[key]) for row in tests]) for key in ("model", "windows", *FLOORS)}
    model, weight = columns["model"][None], columns["windows"]
    return {floor: change(model, columns[key][None], weight) for key, floor in FLOORS.items() if columns[key].all()}


def _tests(outputs: Outputs) -> Rows:
    return [row for row in outputs.plots.get("episodes", ()) if row["split"] == "test"]


def _range(found: Change) -> str:
    """Of a change for the better or worse, the smaller number first."""
    if (found.low <= 0) != (found.high <= 0):
        return f"{less(found.low)} to {less(found.high)}"
    low, high = sorted((abs(found.low), abs(found.high)))
    return f"{100 * low:.1f} to {percent(high)}"


def _numbers(outputs: Outputs) -> Html:
    found = outputs.metrics
    shown = [
        ("error, model", "mse.mean", number, "standardized units squared"),
        ("error, ridge", "baseline.linear.mse", number, "linear in features and action"),
        ("error, hold-last", "baseline.persistence.mse", number, "the last frame, repeated"),
        ("90 % intervals hold", "coverage.p90", percent, "of what really came"),
        ("rarest tenth", "rare.mse", number, "error in rare situations"),
        ("dreams told apart", "dreams.realism", number, "AUC; 0.5 = not at all"),
    ]
    tiles = [(label, key, write, note) for label, key, write, note in shown if key in found]
    return facts((label, join((tag("b", write(found[key])), tag("small", note)))) for label, key, write, note in tiles)
