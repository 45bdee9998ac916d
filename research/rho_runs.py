"""The runs of the rho study: log sizes, arms and seeds as params."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worldmodel.sweeps import grid

REPEAT, DEFAULT = "repeat", "default"


@dataclass(frozen=True)
class Arm:
    """What is compared: a constant rho, params.yaml as it stands, or the control that repeats logged windows."""

    name: str
    rho: float  # share over the whole training
    overrides: Mapping[str, str]


@dataclass(frozen=True)
class Run(grid.Run):
    arm: Arm
    size: int  # train episodes; 0 = all
    seed: int


def arms(rhos: Sequence[float], control_rho: float | None, train: Mapping[str, Any]) -> list[Arm]:
    """`train` is the section of params.yaml; where its schedule is not constant, it is an arm of its own.

    Without a control_rho the control does as params.yaml does.
    """
    scheduled = train["rho_schedule"] != "constant"
    mean = (train["rho_start"] + train["rho"]) / 2 if scheduled else train["rho"]  # linear and cosine alike
    constant = [Arm(f"rho {rho:g}", rho, _constant(rho)) for rho in rhos]
    default = [Arm(DEFAULT, mean, {})] if scheduled else []
    share, overrides = (mean, {}) if control_rho is None else (control_rho, _constant(control_rho))
    return [*constant, *default, Arm(REPEAT, share, {"dreams.source": "repeat"} | overrides)]


def _constant(rho: float) -> dict[str, str]:
    return {"train.rho": f"{rho:g}", "train.rho_start": f"{rho:g}", "train.rho_schedule": "constant"}


def study_runs(
    compared: Sequence[Arm],
    sizes: Sequence[int],
    seeds: int,
    values: Mapping[str, Any],
    extra: Mapping[str, str],
    code: str,
) -> list[Run]:
    """Seed by seed. `values`: params.yaml; `code`: a hash of all that decides results and is no param.

    Raises ValueError where the params are wrong.
    """
    runs = []
    for seed in range(seeds):
        moved = {f"{section}.seed": str(values[section]["seed"] + seed) for section in ("train", "dreams")}
        for size in sizes:
            for arm in compared:
                label = f"{arm.name.replace(' ', '-')}-of-{size or 'all'}-seed-{seed}"
                overrides = {**extra, "prepare.train_episodes": str(size), **moved, **arm.overrides}
                run = grid.run_of(label, overrides, values, code)
                runs.append(Run(**vars(run), arm=arm, size=size, seed=seed))
    return runs
