"""The runs of the rho study: log sizes, arms and seeds as params."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worldmodel.sweeps import run as runs
from worldmodel.sweeps.run import run_of

REPEAT, DEFAULT = "repeat", "default"


@dataclass(frozen=True)
class Arm:
    """What is compared: a constant rho, params.yaml as it stands, or the control that repeats logged windows."""

    name: str
    rho: float  # share over the whole training
    overrides: Mapping[str, str]


@dataclass(frozen=True)
class Run(runs.Run):
    arm: Arm
    size: int  # train episodes; 0 = all
    seed: int


def arms(rhos: Sequence[float], control_rho: float | None, train: Mapping[str, Any]) -> list[Arm]:
    """`train` is the section of params.yaml; where its schedule is not constant, it is an arm of its own.

    Without a control_rho the control does as params.yaml does.
    """
    found = [Arm(f"rho {rho:g}", rho, _constant(rho)) for rho in rhos]
    scheduled = train["rho_schedule"] != "constant"
    average = (train["rho_start"] + train["rho"]) / 2 if scheduled else train["rho"]  # linear and cosine alike
    if scheduled:
        found.append(Arm(DEFAULT, average, {}))
    control = Arm(REPEAT, average, {}) if control_rho is None else Arm(REPEAT, control_rho, _constant(control_rho))
    return [*found, replace(control, overrides={"dreams.source": "repeat"} | dict(control.overrides))]


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
    found = run_of(f"{arm.name.replace(' ', '-')}-of-{size or 'all'}-seed-{seed}", overrides, values, code)
    return Run(**vars(found), arm=arm, size=size, seed=seed)
