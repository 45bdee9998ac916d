"""The runs of a sweep: every combination of the values that params are to have."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from worldmodel.sweeps.run import Run, run_of

SEED = ".seed"  # keys that end so are averaged over
MEASURE = (  # what errors are measured on
    *(f"prepare.{key}" for key in ("seed", "split_by", "val_share", "test_share", "max_gap_s", "max_rejected_share")),
    "validate.horizon",
)


def axes(given: Sequence[str]) -> dict[str, list[str]]:
    """Key -> texts of its values. Raises ValueError that says which part is wrong."""
    found: dict[str, list[str]] = {}
    for part in given:
        key, equals, text = part.partition("=")
        texts = text.split(",")
        if not (key and equals and all(texts)):
            raise ValueError(f"{part!r}: expected key=value,value such as train.rho=0,0.3")
        if key in found or len(set(texts)) < len(texts):
            raise ValueError(f"{part!r}: {key} has a value twice; name each key and each of its values once")
        if key in MEASURE:
            raise ValueError(
                f"{part!r}: {key} decides what errors are measured on; runs that differ in it compare to none"
            )
        found[key] = texts
    return found


def sweep_runs(asked: Mapping[str, Sequence[str]], values: Mapping[str, Any], code: str) -> list[Run]:
    """Seed by seed, so that a sweep cut short has something of each. Raises ValueError where params are wrong."""
    keys = sorted(asked, key=lambda key: not key.endswith(SEED))
    combinations = itertools.product(*(asked[key] for key in keys))
    chosen = [dict(zip(keys, texts, strict=True)) for texts in combinations]
    return [run_of(_label(each), {key: each[key] for key in asked}, values, code) for each in chosen]


def arm_of(run: Run) -> str:
    """What runs that differ only in seeds have in common."""
    return " ".join(f"{key}={text}" for key, text in run.overrides.items() if not key.endswith(SEED)) or "as committed"


def seeds_of(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple((key, text) for key, text in run.overrides.items() if key.endswith(SEED))


def _label(overrides: Mapping[str, str]) -> str:
    """DVC makes a git reference of it."""
    text = "-".join(f"{key.replace('.', '-')}-{value}" for key, value in sorted(overrides.items()))
    return f"sweep-{re.sub(r'[^A-Za-z0-9-]+', '-', text)[:80].strip('-')}"
