"""The latent space, by agent and by source."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from worldmodel.report.axis import Axis, linear
from worldmodel.report.chart import Chart, Dots, Mark, charts
from worldmodel.report.markup import Html, Section, join, missing, paragraph, tag
from worldmodel.report.material import Material

from worldmodel.core.typing import Doubles
from worldmodel.report.latents import Latents
from worldmodel.report.wording import count, counted, percent

SHOWN = 8  # agents with a colour of their own


def latent(material: Material) -> Section:
    found = material.latents
    body = _body(found) if found else missing("The bundle and the packed arrays", "dvc pull", "make repro")
    return Section("latent", "Latent space", body)


def _body(found: Latents) -> Html:
    axes = _axes(found)
    names = sorted(agent for agent, _ in Counter(sorted(found.agents)).most_common(SHOWN))
    note = (
        f"Each dot is the latent z of one window ({count(len(found.held_out))} of test episodes, "
        f"{count(len(found.observed))} observed ones of train episodes), on the two principal directions of z on "
        "observed train windows. Windows that lie together look alike to the model."
    )
    by_agent = _by_agent(found, names, axes)
    first = [by_agent] + ([_by_source(found, axes)] if len(found.dreamed) else [])
    parts = [paragraph(note, class_="note"), charts(first)]
    if not len(found.dreamed):
        parts.append(missing("Dreams", "dvc exp run -S dreams.episodes=3000"))
    if len(names) > 1:
        title = "One agent at a time" + (
            "" if len(names) == len(set(found.agents)) else f" (the {SHOWN} with most windows)"
        )
        panels = (_alone(found, agent, number, axes).render() for number, agent in enumerate(names))
        parts += [tag("h3", title), tag("div", *panels, class_="panels")]
    return join(parts)


def _axes(found: Latents) -> tuple[Axis, Axis]:
    everything = np.concatenate([found.held_out, found.observed, found.dreamed])
    titles = (
        f"principal direction {n + 1} ({percent(share, 0)} of the variance)" for n, share in enumerate(found.explained)
    )
    x, y = (linear(title, everything[:, n].tolist()) for n, title in enumerate(titles))
    return x, y


def _by_agent(found: Latents, names: Sequence[str], axes: tuple[Axis, Axis]) -> Chart:
    others = [number for number, agent in enumerate(found.agents) if agent not in names]
    marks: list[Mark] = [_dots(found.held_out[others], "hold", "other agents")] if others else []
    marks += [_dots(found.held_out[_of(found, agent)], f"kind-{n}", agent) for n, agent in enumerate(names)]
    says = f"Scatter plot of test windows, {counted(len(names), 'agent')} in colours of their own."
    return Chart("Test windows, by agent", says, *axes, marks, "square")


def _by_source(found: Latents, axes: tuple[Axis, Axis]) -> Chart:
    marks = [_dots(found.observed, "model", "observed"), _dots(found.dreamed, "dream", "dreamed")]
    says = f"Scatter plot of {len(found.observed)} observed and {len(found.dreamed)} dreamed train windows."
    return Chart("Train windows, by source", says, *axes, marks, "square")


def _alone(found: Latents, agent: str, number: int, axes: tuple[Axis, Axis]) -> Chart:
    bare = [Axis("", axis.low, axis.high, ()) for axis in axes]
    own = found.held_out[_of(found, agent)]
    marks = [_dots(found.held_out, "faint", None), _dots(own, f"kind-{number}", None)]
    return Chart(agent, f"The {len(own)} windows of {agent} among all test windows.", bare[0], bare[1], marks, "square")


def _of(found: Latents, agent: str) -> list[int]:
    return [number for number, each in enumerate(found.agents) if each == agent]


def _dots(points: Doubles, look: str, title: str | None) -> Dots:
    return Dots(points[:, 0].tolist(), points[:, 1].tolist(), f"{look} small", title)
