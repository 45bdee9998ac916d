"""The parts of the report on a pull request, each a piece of GitHub Markdown; empty where there is nothing to tell."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worldmodel.ci.gates import Gates, Verdict
from worldmodel.ci.revisions import State

NAMES = 5  # of changed files in one cell, at most
PALETTE = {"now": ("#0072b2", "🟦"), "base": ("#e69f00", "🟧"), "ridge": ("#999999", "⬜")}
INPUTS = ("data/", "artifacts/")


def gates_section(verdicts: Sequence[Verdict]) -> str:
    rows = [("✅" if each.holds else "❌", f"`{each.metric}`", number(each.found), each.expected) for each in verdicts]
    broken = sum(not each.holds for each in verdicts)
    title = f"Gates: {broken} of {len(verdicts)} broken" if broken else f"Gates: all {len(verdicts)} hold"
    return section(title, table(("", "metric", "found", "expected"), sorted(rows, key=lambda row: row[0] == "✅")))


def metrics_section(now: State, base: State, gates: Gates) -> str:
    names = sorted({*now.metrics, *base.metrics})
    if not names:
        return section("Metrics", "None: `artifacts/metrics.json` is not there. Run `dvc repro` and commit it.")
    if now.metrics == base.metrics:
        return section("Metrics", f"All {len(names)} are as at the base.")
    rows = []
    for name in names:
        before, after = base.metrics.get(name), now.metrics.get(name)
        rows.append((f"`{name}`", number(before), number(after), change(before, after, gates.direction(name))))
    changed = [row for row in rows if row[3] != "="]
    same = f"\n\n{len(rows) - len(changed)} others are as at the base." if len(changed) < len(rows) else ""
    return section("Metrics", table(("metric", "base", "now", "change"), changed) + same)


def change(before: float | None, after: float | None, better: str | None) -> str:
    """Arrow, per cent of the base's value, and whether that is better."""
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before == after:
        return "="
    arrow = "▲" if after > before else "▼"
    size = f"{100 * abs(after - before) / abs(before):.1f} %" if before else f"{abs(after):.6g}"
    judged = {None: "", "higher": after > before, "lower": after < before}[better]
    return f"{arrow} {size} {judged if judged == '' else '🟢 better' if judged else '🔴 worse'}".rstrip()


def params_section(now: State, base: State) -> str:
    keys = [key for key in {**base.params, **now.params} if now.params.get(key) != base.params.get(key)]
    rows = [(f"`{key}`", _value(base.params, key), _value(now.params, key)) for key in keys]
    return section("Params", table(("param", "base", "now"), rows)) if rows else ""


def stages_section(now: State, base: State, stale: Mapping[str, Sequence[str]]) -> str:
    """`stale`: stage -> reasons, of what dvc.lock does not hold yet."""
    rows = []
    for name in {**now.stages, **stale}:
        reasons = _differences(now.stages.get(name, {}), base.stages.get(name, {}))
        if name in stale:
            rows.append((f"`{name}`", "❌ has to rerun", shortened(stale[name])))
        elif reasons:
            same = _outs(now.stages[name]) == _outs(base.stages.get(name, {}))
            rows.append((f"`{name}`", "reran, same results" if same else "reran", shortened(reasons)))
    return section("Stages", table(("stage", "", "because of"), rows)) if rows else ""


def _differences(now: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """What an entry of dvc.lock took in that the base's did not."""
    if not base:
        return ["a new stage"] if now else []
    before, after = _taken(base), _taken(now)
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _taken(entry: Mapping[str, Any]) -> dict[str, Any]:
    params = {key: value for file in entry.get("params", {}).values() for key, value in file.items()}
    deps = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
    return {"its command": entry.get("cmd")} | params | deps


def _outs(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {out["path"]: out.get("md5") for out in entry.get("outs", [])}


def horizon_section(now: State, base: State) -> str:
    """A chart as text, which GitHub draws; `base` is left out where it is the same."""
    lines = {"now": now.horizon.get("model", {}), "base": base.horizon.get("model", {})}
    lines["ridge"] = now.horizon.get("ridge", {})
    if not lines["now"]:
        return ""
    if lines["base"] == lines["now"] or lines["base"].keys() != lines["now"].keys():
        del lines["base"]
    drawn = {name: values for name, values in lines.items() if values}
    colors = ", ".join(PALETTE[name][0] for name in drawn)
    top = 1.05 * max(value for values in drawn.values() for value in values.values())
    chart = [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{colors}"}}}}}}}}%%',
        "xychart-beta",
        f'    x-axis "frames ahead" [{", ".join(str(frame) for frame in sorted(lines["now"]))}]',
        f'    y-axis "mean squared error" 0 --> {top or 1:.3g}',
        *(f"    line [{', '.join(f'{values[frame]:.4g}' for frame in sorted(values))}]" for values in drawn.values()),
        "```",
    ]
    legend = " ".join(f"{PALETTE[name][1]} {name}" for name in drawn)
    return section("Error along the horizon", "\n".join([legend, "", *chart]))


def section(title: str, text: str) -> str:
    return f"#### {title}\n\n{text}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def shortened(names: Sequence[str]) -> str:
    """Params first: they are what a reader asks for."""
    ordered = sorted(names, key=lambda name: ("/" in name, name.startswith(INPUTS)))
    more = f" and {len(ordered) - NAMES} more" if len(ordered) > NAMES else ""
    return ", ".join(f"`{name}`" for name in ordered[:NAMES]) + more


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _value(values: Mapping[str, Any], key: str) -> str:
    return f"`{values[key]}`" if key in values else "-"
