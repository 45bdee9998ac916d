"""The runs of a study: log sizes, arms and seeds as params, each run with the name that its experiment has in DVC."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from worldmodel.config import params
from worldmodel.config.yaml12 import parse
from worldmodel.runtime.fingerprint import fingerprint

REPEAT, DEFAULT = "repeat", "default"
PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Arm:
    """What is compared: a constant rho, the control that repeats logged windows, or params.yaml as it stands."""

    name: str
    rho: float
    overrides: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    arm: Arm
    size: int  # train episodes; 0 = all
    seed: int
    overrides: Mapping[str, str]  # dotted key -> text, as `dvc exp run -S` takes them
    values: Mapping[str, Any]  # params.yaml with them
    name: str
    dreams: str  # equal where the stages up to normalize are; one of such runs goes first, the others find its dreams


def arms(rhos: Sequence[float], control_rho: float | None, train: Mapping[str, Any]) -> list[Arm]:
    """`train` is the section of params.yaml; where its schedule is not constant, it is an arm of its own."""
    found = [Arm(f"rho {rho:g}", rho, _constant(rho)) for rho in rhos]
    if train["rho_schedule"] != "constant":
        found.append(Arm(DEFAULT, train["rho"], {}))
    rho = train["rho"] if control_rho is None else control_rho
    return [*found, Arm(REPEAT, rho, {"dreams.source": "repeat"} | _constant(rho))]


def _constant(rho: float) -> dict[str, str]:
    return {"train.rho": f"{rho:g}", "train.rho_start": f"{rho:g}", "train.rho_schedule": "constant"}


def grid(
    given: Sequence[Arm],
    sizes: Sequence[int],
    seeds: int,
    values: Mapping[str, Any],
    extra: Mapping[str, str],
    code: str,
) -> list[Run]:
    """Seed by seed. `values`: params.yaml; `code`: a hash of all that decides results and is no param.

    Raises ValueError where the params are wrong.
    """
    return [
        _run(arm, size, seed, values, dict(extra), code) for seed in range(seeds) for size in sizes for arm in given
    ]


def _run(arm: Arm, size: int, seed: int, values: Mapping[str, Any], extra: dict[str, str], code: str) -> Run:
    overrides = {
        "prepare.train_episodes": str(size),
        "train.seed": str(values["train"]["seed"] + seed),
        "dreams.seed": str(values["dreams"]["seed"] + seed),
    }
    overrides = extra | overrides | dict(arm.overrides)
    changed = with_overrides(values, overrides)
    checked = params.check(changed, PARAMS)
    digest = fingerprint({"params": asdict(checked), "code": code})[:8]
    name = f"{arm.name.replace(' ', '-')}-of-{size or 'all'}-seed-{seed}-{digest}"
    dreams = fingerprint(asdict(params.part(checked, params.DreamsStage)))
    return Run(arm, size, seed, overrides, changed, name, dreams)


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
