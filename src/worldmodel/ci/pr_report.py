"""What a pull request changes, as Markdown for a comment: verdicts, metrics, params, stages, error along the horizon.

Reads the working tree and the merge base with BASE, both as git has them: needs no data, no cache and no remote.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from worldmodel.ci import sections
from worldmodel.ci.fresh import stale
from worldmodel.ci.gates import Gates, judge, read_gates
from worldmodel.ci.revisions import State, merge_base, run_id, state
from worldmodel.core.atomic import replacing
from worldmodel.core.options import PATH

HEADLINE = "mse.mean"
NONE = State(None, {}, {}, {}, {}, None)


def report(base: str) -> str:
    """Raises ValueError where git, DVC or a file cannot be read."""
    gates, now, commit = read_gates(), state(None), merge_base(base)
    before = state(commit) if commit else NONE
    changed = stale()
    parts = [
        f"### World model: {_headline(now, before, gates)}",
        _compared(base, commit, before),
        f"Run-id: {_run_ids(now, before)}.",
        _freshness(changed),
        sections.gates_section(judge(gates, now.metrics, before.metrics)) if now.metrics else "",
        sections.metrics_section(now, before, gates),
        sections.params_section(now, before) if commit else "",
        sections.stages_section(now, before, changed) if commit else "",
        sections.horizon_section(now, before),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(now: State, before: State, gates: Gates) -> str:
    after = now.metrics.get(HEADLINE)
    told = sections.change(before.metrics.get(HEADLINE), after, gates.direction(HEADLINE))
    if after is None:
        return "not measured"
    same = {"=": "as at the base", "new": "nothing to compare with"}.get(told, told)
    return f"`{HEADLINE}` {sections.number(after)}, {same}"


def _compared(base: str, commit: str | None, before: State) -> str:
    if commit is None:
        return "There is no base to compare with." if not base else f"There is no commit in common with `{base}`."
    missing = "" if before.metrics else ", which has no metrics: nothing to compare with"
    return f"Compared with `{commit[:7]}`, the merge base with `{base}`{missing}."


def _run_ids(now: State, before: State) -> str:
    ids = [f"`{run_id(each) or 'not known'}`" for each in (before, now) if each.stages]
    return " → ".join(dict.fromkeys(ids)) or "none: there is no `dvc.lock`"


def _freshness(changed: Mapping[str, Sequence[str]]) -> str:
    if not changed:
        return ""
    names = ", ".join(f"`{name}`" for name in changed)
    return (
        f"❌ `dvc.lock` does not belong to this commit ({names}), so neither do the metrics: run `dvc repro`, commit."
    )


@click.command()
@click.option("--base", default="origin/main", show_default=True, help="Branch or commit; empty: there is none.")
@click.option("--out", type=PATH, help="File for it; else it is printed.")
def command(base: str, out: Path | None) -> None:
    """Say what a pull request changes, as Markdown for a comment."""
    text = report(base)
    if out is None:
        print(text, end="")
        return
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
