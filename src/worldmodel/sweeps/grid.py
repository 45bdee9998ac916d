"""The runs of a study: params.yaml with other values, and every combination of the values that params are to have."""

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from worldmodel.core import params
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.yaml12 import parse

PARAMS = Path("params.yaml")
SEED = ".seed"  # keys that end so are averaged over
MEASURE = (  # what errors are measured on
    *(f"prepare.{each.name}" for each in fields(params.IngestParams) if each.name != "train_episodes"),
    "validate.horizon",
)


@dataclass(frozen=True)
class Run:
    overrides: Mapping[str, str]  # dotted key -> text, as `dvc exp run -S` takes them
    values: Mapping[str, Any]  # params.yaml with them
    name: str
    dreams: str  # equal where the stages up to normalize are; one of such runs goes first, the others find its dreams


def run_of(label: str, overrides: Mapping[str, str], values: Mapping[str, Any], code: str) -> Run:
    """`values`: params.yaml; `code`: a hash of all that decides results and is no param.

    Raises ValueError where the params are wrong.
    """
    changed = with_overrides(values, overrides)
    checked = params.check(changed, PARAMS)
    digest = fingerprint({"params": asdict(checked), "code": code})[:8]
    dreams = fingerprint(asdict(params.part(checked, params.DreamsStage)))
    return Run(overrides, changed, f"{label}-{digest}", dreams)


def with_overrides(values: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """Raises ValueError for a key that is not there or a value that is no YAML."""
    changed = copy.deepcopy(dict(values))
    for key, text in overrides.items():
        *path, last = key.split(".")
        section = changed
        for part in path:
            section = section.get(part) if isinstance(section, dict) else None  # type: ignore[assignment]
        if not isinstance(section, dict) or last not in section:
            raise ValueError(f"{key}={text}: params.yaml has no {key}")
        try:
            section[last] = parse(text)
        except ValueError as error:
            raise ValueError(f"{key}={text}: {error}") from None
    return changed


def axes(combinations: Sequence[str]) -> dict[str, list[str]]:
    """Key -> texts of its values. Raises ValueError that says which part is wrong."""
    values: dict[str, list[str]] = {}
    for part in combinations:
        key, equals, text = part.partition("=")
        texts = text.split(",")
        if not (key and equals and all(texts)):
            raise ValueError(f"{part!r}: expected key=value,value such as train.rho=0,0.3")
        if key in values or len(set(texts)) < len(texts):
            raise ValueError(f"{part!r}: {key} has a value twice; name each key and each of its values once")
        if key in MEASURE:
            raise ValueError(
                f"{part!r}: {key} decides what errors are measured on; runs that differ in it compare to none"
            )
        values[key] = texts
    return values


def sweep_runs(requested: Mapping[str, Sequence[str]], values: Mapping[str, Any], code: str) -> list[Run]:
    """Seed by seed, so that a sweep cut short has something of each. Raises ValueError where params are wrong."""
    keys = sorted(requested, key=lambda key: not key.endswith(SEED))
    products = itertools.product(*(requested[key] for key in keys))
    chosen = [dict(zip(keys, texts, strict=True)) for texts in products]
    return [run_of(_label(each), {key: each[key] for key in requested}, values, code) for each in chosen]


def arm_of(run: Run) -> str:
    """What runs that differ only in seeds have in common."""
    return " ".join(f"{key}={text}" for key, text in run.overrides.items() if not key.endswith(SEED)) or "as committed"


def seeds_of(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple((key, text) for key, text in run.overrides.items() if key.endswith(SEED))


def _label(overrides: Mapping[str, str]) -> str:
    """DVC makes a git reference of it."""
    text = "-".join(f"{key.replace('.', '-')}-{value}" for key, value in sorted(overrides.items()))
    return f"sweep-{re.sub(r'[^A-Za-z0-9-]+', '-', text)[:80].strip('-')}"
