"""One self-contained HTML page about the trained model, from what the pipeline left: no network, no script. Another one
runs the model: explorer.py.

Where a part is missing, as in a clone that has pulled nothing, its section names the command that makes it. The same
files give the same bytes.
"""

from pathlib import Path

import click
from jinja2 import ChainableUndefined, Environment, PackageLoader, UndefinedError
from matplotlib import style

from worldmodel.core.addresses import redacted
from worldmodel.core.atomic import replacing
from worldmodel.core.options import PATH
from worldmodel.numerics.isolation import portable
from worldmodel.report import charts, control_charts, tables
from worldmodel.report.canvas import STYLE
from worldmodel.report.collect import collect
from worldmodel.report.explorer import explorer_page
from worldmodel.report.wording import FILTERS

OUT, EXPLORER = Path("runs/report.html"), Path("runs/explorer.html")
SECTIONS = {  # template -> title
    "data": "What was trained on what",
    "horizon": "Along the horizon",
    "agents": "By agent and episode",
    "features": "By feature",
    "worst": "Worst episodes, predicted against real",
    "control": "In control",
    "latent": "Latent space",
    "dreams": "Dreams against real",
    "training": "Loss, and rho as drawn",
    "timing": "Export and time",
    "params": "Params",
    "provenance": "Provenance",
}


@portable
def page(explorer: str | None = None) -> str:
    """Of the folder that this runs in; `explorer` is the address of that page.

    Raises ValueError where a part is damaged, or parts do not belong together.
    """
    templates = Environment(
        loader=PackageLoader("worldmodel.report"), autoescape=True, undefined=ChainableUndefined, trim_blocks=True
    )
    templates.filters |= {each.__name__: each for each in (*FILTERS, redacted)}
    try:
        data = collect()
        with style.context(STYLE, after_reset=True):
            return templates.get_template("page.html").render(
                data=data,
                sections={key: title for key, title in SECTIONS.items() if key != "control" or data.controlled},
                charts=charts,
                control_charts=control_charts,
                tables=tables,
                explorer=explorer,
                changes=tables.against_floors(data.tests),
            )
    except (KeyError, UndefinedError) as error:
        raise ValueError(
            f"a plot, manifest or record lacks {error}, as if another version had written it; run `dvc repro`"
        ) from error


@click.command()
@click.option("--out", type=PATH, help=f"File for the page.  [default: {OUT}, or {EXPLORER} of the explorer]")
@click.option("--explorer", is_flag=True, help="Make the page that runs the model; npm gets a library for it.")
def command(out: Path | None, explorer: bool) -> None:
    """Make one self-contained HTML page about the trained model, from what the pipeline left."""
    out = out or (EXPLORER if explorer else OUT)
    text = explorer_page(_beside(out, OUT.name)) if explorer else page(_beside(out, EXPLORER.name))
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


def _beside(out: Path, name: str) -> str | None:
    """Address of another page, where it lies in the folder of this one."""
    return name if out.name != name and out.with_name(name).is_file() else None
