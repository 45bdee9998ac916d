"""What a pull request changes, as Markdown for a comment: verdict, gates, metrics, params, stages, error by frame.

Reads the working tree and the merge base with BASE, both as git has them: needs no data, no cache and no remote.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, Undefined
from markupsafe import Markup

from worldmodel.ci.fresh import stale
from worldmodel.ci.gates import judge, read_gates
from worldmodel.ci.revisions import State, merge_base, run_id, state
from worldmodel.core.atomic import replacing
from worldmodel.core.options import PATH
from worldmodel.core.processes import output
from worldmodel.core.project import project_folder
from worldmodel.core.text import in_markdown_code

HEADLINE = "mse.mean"
NONE = State({}, {}, {}, {}, None, {})
COLORS = {"now": ("#0072b2", "🟦"), "base": ("#e69f00", "🟧"), "ridge": ("#999999", "⬜")}
SHOWN = 5  # names in a cell
INPUTS = ("data/", "artifacts/")


def report(base: str) -> str:
    """Raises ValueError where git, DVC or a file cannot be read."""
    rules, now, commit, changed = read_gates(), state(None), merge_base(base), stale()
    before = state(commit) if commit else NONE
    names = sorted({*now.metrics, *before.metrics})
    told = {name: change(before.metrics.get(name), now.metrics.get(name), rules.direction(name)) for name in names}
    cache = Path(output("dvc", "cache", "dir").strip())
    lines = curves(now, before)
    return rendered(
        base=base,
        commit=commit,
        now=now,
        before=before,
        against={name: text for name, text in now.verdict.items() if name != "ok" and text},
        headline={"=": "as at the base", "new": "nothing to compare with"}.get(said := told.get(HEADLINE, ""), said),
        run_ids=list(dict.fromkeys(run_id(each, cache) for each in (before, now) if each.stages)),
        stale=changed,
        gates=judge(rules, now.metrics, before.metrics) if now.metrics else [],
        metrics=told,
        changed={name: said for name, said in told.items() if said != "="},
        params=_differing(before.params, now.params) if commit else [],
        stages=stages(now, before, changed) if commit else [],
        lines=lines,
        top=1.05 * max((value for curve in lines.values() for value in curve.values()), default=0) or 1,
    )


def rendered(**values: Any) -> str:
    """The template with these values. What a branch has put into names and numbers breaks no table and no code."""
    markdown = Environment(trim_blocks=True, lstrip_blocks=True, finalize=_plain)
    markdown.filters |= {"number": _number, "names": _names, "code": _code}
    template = markdown.from_string(Path(__file__).with_suffix(".md.j2").read_text(encoding="utf-8"))
    text = template.render(values, HEADLINE=HEADLINE, COLORS=COLORS)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +\n", "\n", text)).strip() + "\n"


def change(before: float | None, after: float | None, better: str | None) -> str:
    """Arrow, per cent of the base's value, and whether that is better."""
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before == after:
        return "="
    arrow = "▲" if after > before else "▼"
    size = f"{100 * abs(after - before) / abs(before):.1f} %" if before else f"{abs(after):.6g}"
    if better is None:
        return f"{arrow} {size}"
    return f"{arrow} {size} {'🟢 better' if (after > before) == (better == 'higher') else '🔴 worse'}"


def stages(now: State, base: State, stale: Mapping[str, Sequence[str]]) -> list[tuple[str, str, Sequence[str]]]:
    """Stage, what became of it, and why. `stale`: stage -> reasons, of what dvc.lock does not hold yet."""
    rows: list[tuple[str, str, Sequence[str]]] = []
    for name in {**now.stages, **stale}:
        took, outs = _entry(now, name)
        before, left = _entry(base, name)
        if name in stale:
            rows.append((name, "❌ has to rerun", stale[name]))
        elif name not in base.stages:
            rows.append((name, "reran", ["a new stage"]))
        elif reasons := _differing(before, took):
            rows.append((name, "reran, same results" if outs == left else "reran", reasons))
    return rows


def _entry(state: State, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What it took in, and what it left, by dvc.lock."""
    entry = state.stages.get(stage, {})
    params = {key: value for file in entry.get("params", {}).values() for key, value in file.items()}
    deps, outs = ({each["path"]: each.get("md5") for each in entry.get(kind, [])} for kind in ("deps", "outs"))
    return {"its command": entry.get("cmd")} | params | deps, outs


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in {**one, **other} if one.get(key) != other.get(key)]


def curves(now: State, base: State) -> dict[str, Mapping[int, float]]:
    """Name -> error by frame; the base's is left out where it is the same, or of another horizon."""
    model, before = now.horizon.get("model", {}), base.horizon.get("model", {})
    if before == model or before.keys() != model.keys():
        before = {}
    drawn = {"now": model, "base": before, "ridge": now.horizon.get("ridge", {})}
    return {name: curve for name, curve in drawn.items() if curve} if model else {}


def _plain(value: Any) -> Any:
    return value if isinstance(value, Markup) else in_markdown_code(str(value))


def _code(value: Any) -> str:
    return "-" if isinstance(value, Undefined) else Markup(f"`{_plain(value) or ' '}`")


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "-"


def _names(names: Sequence[str]) -> str:
    """Params first: they are what a reader asks for."""
    ordered = sorted(names, key=lambda name: ("/" in name, name.startswith(INPUTS)))
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return Markup(", ".join(map(_code, ordered[:SHOWN])) + more)


@click.command()
@click.option("--base", default="origin/main", show_default=True, help="Branch or commit; empty: there is none.")
@click.option("--out", type=PATH, help="File for it; else it is printed.")
def command(base: str, out: Path | None) -> None:
    """Say what a pull request changes, as Markdown for a comment."""
    with chdir(project_folder()):
        text = report(base)
    if out is None:
        print(text, end="")
        return
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
