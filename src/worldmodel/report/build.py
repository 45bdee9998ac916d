"""One self-contained HTML page about the trained model, from what the pipeline left: no network, no script.

Where a part is not here, as in a clone that has pulled nothing, its section says so and names the command that makes
it. The same files give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import click

from worldmodel.core.atomic import replacing
from worldmodel.core.options import PATH
from worldmodel.report.markup import Html, Section, join, paragraph, tag
from worldmodel.report.material import Material, gather
from worldmodel.report.sections import (
    agents,
    data,
    dreams,
    horizon,
    latent,
    params,
    provenance,
    summary,
    timing,
    training,
    worst,
)

OUT = Path("runs/report.html")
STYLE = Path(__file__).with_name("style.css")
NOTHING_FROM_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'"
SECTIONS = (
    data.data,
    horizon.horizon,
    agents.agents,
    worst.worst,
    latent.latent,
    dreams.dreams,
    training.training,
    timing.timing,
    params.params,
    provenance.provenance,
)


def page(material: Material) -> str:
    """A whole document."""
    sections = [section(material) for section in SECTIONS]
    title = f"World model {material.outputs.run_id or ''}".strip()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=NOTHING_FROM_OUTSIDE),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    main = tag("main", summary.summary(material), _contents(sections), *(_section(each) for each in sections))
    footer = tag("footer", paragraph("Made by ", tag("code", "make report"), " from what the pipeline left."))
    body = tag("body", tag("header", tag("h1", title)), main, footer)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _contents(sections: Sequence[Section]) -> Html:
    links = (tag("li", tag("a", each.title, href=f"#{each.anchor}")) for each in sections)
    return tag("nav", tag("ol", *links), aria_label="Contents")


def _section(each: Section) -> Html:
    title = tag("h2", each.title, id=f"{each.anchor}-title")
    return tag("section", join((title, each.body)), id=each.anchor, aria_labelledby=f"{each.anchor}-title")


@click.command()
@click.option("--out", type=PATH, default=OUT, show_default=True, help="File for the page.")
def command(out: Path) -> None:
    """Make one self-contained HTML page about the trained model, from what the pipeline left."""
    text = page(gather())
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out}: {len(text.encode()) / 1e3:.0f} kB")
