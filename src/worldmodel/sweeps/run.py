"""One run of the pipeline with other params, under the name that its experiment has in DVC."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from worldmodel.core import params
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.yaml12 import parse

PARAMS = Path("params.yaml")


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
        except yaml.YAMLError:
            raise ValueError(f"{key}={text}: not a value that YAML can read") from None
    return changed
