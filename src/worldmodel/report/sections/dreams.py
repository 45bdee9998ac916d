"""Dreams against what really followed their starts."""

from collections.abc import Sequence

from worldmodel.arrays.scaler import Scaler
from worldmodel.report.axis import Axis, frames, linear, logarithmic
from worldmodel.report.chart import Chart, Dots, Line, Mark, Steps, charts
from worldmodel.report.dreamed import Dreamed, Pair, liveliest
from worldmodel.report.markup import Html, Section, join, missing, name, paragraph, tag
from worldmodel.report.material import Material
from worldmodel.report.wording import number, percent

FEATURES = 2  # of each pair
WORDS = ("Nearest to the log", "In the middle", "Farthest from the log")


def dreams(material: Material) -> Section:
    return Section("dreams", "Dreams against real", _body(material))


def _body(material: Material) -> Html:
    outputs = material.outputs
    parts = [_words(material)]
    drawn = [chart for chart in (_realism(material), _changes(material.dreamed)) if chart]
    if drawn:
        parts.append(charts(drawn))
    if material.dreamed and outputs.bundle:
        parts += _examples(material.dreamed, Scaler.read(outputs.bundle / "normalizer.json"))
    elif not outputs.data:
        parts.append(missing("Examples (they need the bundle and the packed arrays)", "dvc pull", "make repro"))
    return join(parts)


def _words(material: Material) -> Html:
    found = material.outputs.metrics
    if "dreams.realism" not in found:
        if "dreams.share" not in found:
            return missing("What dreams are like", "make repro")
        return paragraph(
            "Realism was not measured: there are no dreams, or too few train episodes to compare them with. ",
            tag("code", "dvc exp run -S dreams.episodes=3000"),
            " dreams some.",
            class_="missing",
        )
    source = material.outputs.params.get("dreams.source", "unknown")
    return paragraph(
        f"Dreams by {source}; {percent(found['dreams.share'])} of the windows that the model was trained on were "
        "dreamed. A classifier, fitted on other episodes, tells dreams from what really followed with AUC ",
        tag("strong", number(found["dreams.realism"])),
        " (0.5: it can only guess; 1: it always knows).",
    )


def _realism(material: Material) -> Chart | None:
    found = material.outputs.series("realism", "score", "windows")
    if not any(value for _, counts in found.values() for value in counts):
        return None
    looks = {"real": "real", "dreamed": "dream"}
    marks: list[Mark] = [Steps(_edges(xs), counts, looks[series], series) for series, (xs, counts) in found.items()]
    edges = _edges(next(iter(found.values()))[0])
    y = linear("windows", [0.0, *(count for _, counts in found.values() for count in counts)])
    says = "Histogram of the classifier's scores: the more real and dreamed overlap, the more alike they are."
    return Chart(
        "Dreams among real windows",
        says,
        linear("score: real about \N{MINUS SIGN}1, dreamed about 1", edges, 0),
        y,
        marks,
    )


def _edges(middles: Sequence[float]) -> list[float]:
    half = (middles[1] - middles[0]) / 2
    return [middles[0] - half, *(middle + half for middle in middles)]


def _changes(found: Dreamed | None) -> Chart | None:
    if found is None:
        return None
    real, dreamed = found.observed_change.tolist(), found.dreamed_change.tolist()
    values = [value for value in (*real, *dreamed) if value > 0]
    if not values:
        return None
    x = logarithmic("real, standardized units (log scale)", values)
    y = Axis("dreamed, standardized units (log scale)", x.low, x.high, x.ticks, x.logarithmic)
    titles = [
        f"feature {n}: real {number(a)}, dreamed {number(b)}"
        for n, (a, b) in enumerate(zip(real, dreamed, strict=True))
    ]
    marks: list[Mark] = [
        Line((x.low, x.high), (x.low, x.high), "hold", "alike"),
        Dots(real, dreamed, "dream", "a feature", titles),
    ]
    calmer = sum(b < a for a, b in zip(real, dreamed, strict=True))
    says = f"Scatter plot: {calmer} of {len(real)} features change less from frame to frame in dreams than in reality."
    return Chart("How much features change from frame to frame", says, x, y, marks, "square")


def _examples(found: Dreamed, scaler: Scaler) -> list[Html]:
    if not found.pairs:
        return [
            paragraph("No dream names the logged frames that it began with: nothing to lay beside it.", class_="note")
        ]
    note = (
        f"Dreams begin with {found.history} frames as they were logged, but for a little noise. Their actions may "
        "differ from the logged ones, so a dream that leaves the log need not be wrong. Shown are the two features "
        "that move most."
    )
    parts = [tag("h3", "Dreams beside the log"), paragraph(note, class_="note")]
    words = WORDS if len(found.pairs) == len(WORDS) else ("Dream",) * len(found.pairs)
    for word, pair in zip(words, found.pairs, strict=True):
        parts += [
            tag("h4", f"{word}: ", name(pair.name), " of ", name(pair.agent_id)),
            charts(_pair(pair, scaler, found.history)),
        ]
    return parts


def _pair(pair: Pair, scaler: Scaler, history: int) -> list[Chart]:
    drawn = []
    for feature, real, dream in liveliest(pair, scaler, FEATURES):
        xs = [float(pair.begin + frame) for frame in range(len(real))]
        values = [*real.tolist(), *dream.tolist()]
        y = linear("raw units", values)
        begin = xs[history - 1]
        marks = (
            Line((begin, begin), (y.low, y.high), "hold", "end of the history"),
            Line(xs, real.tolist(), "real", "real"),
            Line(xs, dream.tolist(), "dream", "dreamed"),
        )
        title = f"feature {feature}"
        says = f"Line chart of {title}: what was logged, and the dream that began with it."
        drawn.append(
            Chart(title, says, frames("frame of the logged episode", int(xs[0]), int(xs[-1])), y, marks, "low")
        )
    return drawn
