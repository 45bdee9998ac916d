"""Loss and rho over the steps of training."""

from worldmodel.report.axis import linear, logarithmic
from worldmodel.report.chart import Chart, Line, Mark, charts
from worldmodel.report.markup import Html, Section, join, missing, paragraph
from worldmodel.report.material import Material
from worldmodel.report.wording import count, number

LOOKS = {"train": "ridge", "val": "model", "scheduled": "thick hold", "drawn": "model"}
LOSSES = {"train": "train windows, dreams among them", "val": "val windows, observed"}


def training(material: Material) -> Section:
    found = [chart for chart in (_loss(material), _rho(material)) if chart]
    body = charts(found) if found else missing("artifacts/plots/loss.csv and rho.csv", "dvc repro train")
    return Section("training", "Loss, and rho as drawn", join((_selected(material), body)))


def _selected(material: Material) -> Html:
    found = material.outputs.manifest.get("selected")
    if not found:
        return Html()
    if found["val_mse"] is None:
        return paragraph("There was no val episode to choose weights on: the last ones were kept.")
    return paragraph(
        f"Weights of step {count(found['step'])} were kept: they do best on val windows ({number(found['val_mse'])})."
    )


def _loss(material: Material) -> Chart | None:
    found = material.outputs.series("loss", "step", "loss")
    if not found:
        return None
    y = logarithmic("mean squared error, standardized units (log scale)", [v for _, ys in found.values() for v in ys])
    marks: list[Mark] = [
        Line(xs, ys, LOOKS.get(name, "hold"), LOSSES.get(name, name)) for name, (xs, ys) in found.items()
    ]
    selected = material.outputs.manifest.get("selected", {}).get("step")
    if selected:
        marks.insert(0, Line((selected, selected), (y.low, y.high), "hold", "weights kept"))
    says = "Line chart of the loss on " + ", ".join(
        f"{name} ({number(ys[0])} to {number(ys[-1])})" for name, (_, ys) in found.items()
    )
    last = max(xs[-1] for xs, _ in found.values())
    return Chart("Loss", says, linear("optimizer step", [0, last], 0), y, marks)


def _rho(material: Material) -> Chart | None:
    found = material.outputs.series("rho", "step", "rho")
    if not found:
        return None
    marks = [Line(xs, ys, LOOKS[name], name) for name, (xs, ys) in sorted(found.items(), reverse=True)]
    shares = [share for _, ys in found.values() for share in ys]
    last = max(xs[-1] for xs, _ in found.values())
    says = f"Line chart: rho between {number(min(shares))} and {number(max(shares))}, as scheduled and as drawn."
    y = linear("rho: share of dreams among the windows", [0, *shares, 0.1])
    return Chart("Rho", says, linear("optimizer step", [0, last], 0), y, marks)
