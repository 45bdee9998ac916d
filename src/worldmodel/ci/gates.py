"""Fails where a metric is worse than gates.yaml lets it be: against the merge base, or against a bound."""

from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from worldmodel.ci.revisions import METRICS, merge_base, state
from worldmodel.core.project import project_folder
from worldmodel.core.text import escaped
from worldmodel.core.yaml12 import cut, read_yaml

GATES = Path("gates.yaml")
CLOSED = ConfigDict(extra="forbid")

Better = Literal["lower", "higher"]
Bound = Annotated[float, Field(allow_inf_nan=False)]


@pydantic.dataclasses.dataclass(frozen=True, config=CLOSED)
class Gate:
    metric: str
    tolerance: Annotated[Bound, Field(ge=0)] | None = None
    min: Bound | None = None
    max: Bound | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=CLOSED)
class Gates:
    better: dict[Better, list[str]]
    gates: list[Gate]

    def direction(self, metric: str) -> Better | None:
        """Of the longest name in `better` that the metric is, or lies below."""
        names = {name: way for way, named in self.better.items() for name in named}
        fitting = [name for name in names if metric == name or metric.startswith(f"{name}.")]
        return names[max(fitting, key=len)] if fitting else None


@dataclass(frozen=True)
class Outcome:
    metric: str
    found: float | None
    expected: str
    holds: bool


def read_gates(path: Path = GATES) -> Gates:
    """Raises ValueError that names the file and what is wrong in it."""
    try:
        found = TypeAdapter(Gates).validate_python(read_yaml(path))
    except ValidationError as error:
        raise ValueError("\n".join(f"{path}: {_mistake(item)}" for item in error.errors())) from None
    for number, gate in enumerate(found.gates):
        where = f"{path}: gates.{number} ({gate.metric})"
        if gate.tolerance is gate.min is gate.max is None:
            raise ValueError(f"{where}: expected a tolerance, a min or a max")
        if gate.tolerance is not None and found.direction(gate.metric) is None:
            raise ValueError(f"{where}: a tolerance, and `better` does not say which way")
    return found


def _mistake(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "the file"
    return f"{where}: found {cut(repr(item['input']))}: {item['msg']}"


def judge(gates: Gates, found: Mapping[str, float], base: Mapping[str, float]) -> Sequence[Outcome]:
    """A metric that is missing breaks its gate; one that the base lacks has no tolerance to keep to."""
    return [_outcome(gate, gates.direction(gate.metric), found.get(gate.metric), base) for gate in gates.gates]


def _outcome(gate: Gate, better: Better | None, found: float | None, base: Mapping[str, float]) -> Outcome:
    least = [] if gate.min is None else [(gate.min, f"at least {gate.min:g}")]
    most = [] if gate.max is None else [(gate.max, f"at most {gate.max:g}")]
    told, before = [], base.get(gate.metric)
    if gate.tolerance is not None:
        percent = f"{100 * gate.tolerance:g} %"
        if before is None:
            told = [f"no more than {percent} worse than the base, which has none"]
        elif better == "lower":
            limit = before + gate.tolerance * abs(before)
            most.append((limit, f"at most {limit:.6g} ({percent} above {before:.6g})"))
        else:
            limit = before - gate.tolerance * abs(before)
            least.append((limit, f"at least {limit:.6g} ({percent} below {before:.6g})"))
    holds = found is not None and all(found >= b for b, _ in least) and all(found <= b for b, _ in most)
    return Outcome(gate.metric, found, " and ".join([*(text for _, text in [*least, *most]), *told]), holds)


@click.command()
@click.option("--base", default="origin/main", show_default=True, help="Branch or commit; empty: there is none.")
def command(base: str) -> None:
    """Fail where a metric is worse than gates.yaml lets it be, against the merge base or against a bound."""
    with chdir(project_folder()):
        gates, now, commit = read_gates(), state(None).metrics, merge_base(base)
        before = state(commit).metrics if commit else {}
    if not now:
        raise ValueError(f"{METRICS}: no metrics there; run `dvc repro` first")
    outcomes = judge(gates, now, before)
    for each in outcomes:
        found = "none" if each.found is None else f"{each.found:.6g}"
        print(
            f"{'holds ' if each.holds else 'BROKEN'}  {escaped(each.metric)}: found {found}, expected {each.expected}"
        )
    broken = ", ".join(escaped(each.metric) for each in outcomes if not each.holds)
    if broken:
        raise ValueError(f"gates broken: {broken}; better the metrics, or change gates.yaml and say why")
