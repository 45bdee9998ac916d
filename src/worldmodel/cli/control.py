"""Drive a simulator with a bundle's planner, beside whatever one would use without it."""

import json
import os
import site
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click

from worldmodel.client import WorldModel, find_bundle
from worldmodel.core.atomic import replacing
from worldmodel.core.jobs import VARIABLE
from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder
from worldmodel.core.text import escaped
from worldmodel.logs.files import Location, location

RUNS = Path("runs/control")
EXTRA = "install worldmodel with its extras `pipeline` and `control`: pip install '.[pipeline,control]' in a checkout"


def json_object(context: click.Context, option: click.Parameter, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter(f"expected a JSON object, found {text}")
    return found


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--env", "name", required=True, metavar="ID", help="Gymnasium's name, e.g. HalfCheetah-v5.")
@click.option(
    "--episodes", type=click.IntRange(1), default=9, show_default=True, help="Of every row, from the same starts."
)
@click.option(
    "--steps", type=click.IntRange(1), help="Frames of an episode at most.  [default: 200, or the environment's limit]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of starts, plans and chances.")
@click.option(
    "--logs", type=location, help="Logs whose agents are compared, and cloned; no start is a frame of theirs."
)
@click.option("--no-oracle", is_flag=True, help="Leave out the planner in the simulator itself, which is slow.")
@click.option(
    "--horizon", type=click.IntRange(1), help="Frames of a plan.  [default: the planner's, as of the next ones]"
)
@click.option("--samples", type=click.IntRange(1), help="Plans of a round.")
@click.option("--iterations", type=click.IntRange(1), help="Rounds of a decision.")
@click.option(
    "--budget-ms", type=click.FloatRange(0, min_open=True), help="Time of a decision; results then depend on it."
)
@click.option("--no-value", is_flag=True, help="Plan without what the bundle says a plan's end is worth.")
@click.option("--cost", metavar="MODULE:FUNCTION", help="Of features and actions, instead of the predicted reward.")
@click.option("--env-kwargs", callback=json_object, default="{}", metavar="JSON", help="Passed to the environment.")
@click.option("--jobs", type=click.IntRange(1), help=f"Episodes at once.  [default: {VARIABLE}, or every core]")
@click.option("--video", type=PATH, help="The first episode: .png as a chart, .gif or .webp as it looks.")
@click.option("--out", type=PATH, help=f"JSON file.  [default: {RUNS}/ID.json in the project]")
def command(
    bundle: Path,
    name: str,
    episodes: int,
    steps: int | None,
    seed: int,
    logs: Location | None,
    no_oracle: bool,
    horizon: int | None,
    samples: int | None,
    iterations: int | None,
    budget_ms: float | None,
    no_value: bool,
    cost: str | None,
    env_kwargs: dict[str, Any],
    jobs: int | None,
    video: Path | None,
    out: Path | None,
) -> None:
    """Drive environment ID of Gymnasium with BUNDLE's planner: returns, beside random actions, none, the
    agents of the logs, behaviour cloning, and the same planner in the simulator itself.

    docs/control.md says what the table means.
    """
    try:
        from worldmodel.control import record, run
        from worldmodel.control import video as pictures
        from worldmodel.control.episodes import Case
        from worldmodel.control.logged import read_logged
        from worldmodel.control.simulator import usual_steps
    except ModuleNotFoundError as missing:
        raise ValueError(f"this command needs {missing.name}, which is not installed; {EXTRA}") from None
    if video and video.suffix not in pictures.SUFFIXES:
        raise click.UsageError(f"--video {video}: expected a name that ends in {', '.join(pictures.SUFFIXES)}.")
    if jobs:
        os.environ[VARIABLE] = str(jobs)
    model = WorldModel.load(bundle)
    given = {"horizon": horizon, "samples": samples, "iterations": iterations, "budget_ms": budget_ms}
    planner: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    planner |= ({"cost": named(cost)} if cost else {}) | ({"value": False} if no_value else {})
    case = Case(model, name, env_kwargs, steps or usual_steps(name), planner, seed)
    played = run.Run(
        case, episodes, not no_oracle, read_logged(logs, find_bundle(bundle), model.feature_count) if logs else None
    )
    seeds = played.play()
    found = record.record(played, seeds)
    print("\n".join(map(escaped, record.lines(found))))
    path = out or _project() / RUNS / f"{name.replace('/', '-').replace(':', '-')}.json"
    with replacing(path) as partial:
        partial.write_text(json.dumps(found, allow_nan=False) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    if video:
        print(f"wrote {pictures.picture(played, seeds[0], found, video)}")


def named(name: str) -> Callable[..., Any]:
    """The function that module:function names, of this folder or installed. Raises ValueError where there is none."""
    site.addsitedir(str(Path.cwd()))
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--cost {name}: {error}; expected module:function, of {Path.cwd()} or installed") from None
    if not callable(found):
        raise ValueError(f"--cost {name}: found {type(found).__name__}, expected a function of (features, actions)")
    function: Callable[..., Any] = found
    return function


def _project() -> Path:
    try:
        return project_folder()
    except ValueError:
        return Path()
