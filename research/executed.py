"""Does disagreement know where a model errs? Plans that leave the logs, executed in the simulator that made them.

    python -m research.executed --env Hopper-v5 --env Pendulum-v1 --episodes 64 --jobs 2 --out executed

For each environment: logs of the agents in examples/collect_gymnasium.py, a model by `worldmodel train`, plans from
frames that the agents reach in episodes which the logs do not hold. The folder keeps logs and models; what is there is
not made again. Errors, std and disagreement in standard deviations of the train frames; a plan counts up to the frame
that ends its task. Dimension key: P kinds of plans, N starts, K frames, F features.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import yaml

from examples.collect_gymnasium import Recording, make, record, write
from research.plans import Simulator, Start, histories, plans
from research.side_by_side import side_by_side
from worldmodel.arrays.scaler import Scaler
from worldmodel.cli import train
from worldmodel.client import WorldModel, find_bundle
from worldmodel.core.errors import run
from worldmodel.core.options import PATH, params_option
from worldmodel.core.tables import aligned, rounded
from worldmodel.core.typing import Doubles, Floats
from worldmodel.core.yaml12 import read_yaml
from worldmodel.evaluation.reliability import rank_correlation
from worldmodel.sweeps.grid import with_overrides

ENVIRONMENTS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Pendulum-v1")
STEPS, DECIMALS = 200, 4  # of the recording
LONG, SHOWN = 64, (1, 4, 16, 32, 64)  # frames of the plans that show how the error grows, and which are shown
DRAWS, SEED = 1000, 0  # of a bootstrap over starts
SHARE = 0.9  # of the intervals


@dataclass(frozen=True)
class Case:
    recording: Recording
    values: Mapping[str, Any]  # params
    starts: int
    folder: Path


class Outcome(NamedTuple):
    """Of plans, beside what the model says of them; NaN after the end of a task."""

    squared: Doubles  # [..., K] error, mean over features
    disagreement: Doubles  # [..., K]
    variance: Doubles  # [..., K] std squared, mean over features
    within: Doubles  # [..., K] share of readings within the intervals of std and disagreement together
    within_std: Doubles  # [..., K] the same of std alone


@click.command()
@click.option("--env", "envs", multiple=True, default=ENVIRONMENTS, show_default=True, help="Gymnasium's name.")
@click.option("--episodes", type=click.IntRange(8), default=64, show_default=True, help="Of the logs, all splits.")
@click.option("--starts", type=click.IntRange(8), default=60, show_default=True, help="Each has a plan of every kind.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the logs, training and plans.")
@click.option("--set", "extra", multiple=True, metavar="KEY=VALUE", help="A param.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Environments at once.")
@click.option("--out", type=PATH, required=True, help="Folder; results go to executed.json in it.")
@params_option
def command(
    envs: tuple[str, ...],
    episodes: int,
    starts: int,
    seed: int,
    extra: tuple[str, ...],
    jobs: int,
    out: Path,
    params_file: Path,
) -> None:
    """Execute plans that leave the logs, and compare the errors with the model's disagreement (minutes for each)."""
    overrides = {"train.seed": str(seed)} | dict(pair.split("=", 1) for pair in extra)
    values = with_overrides(read_yaml(params_file), {"train.policy_steps": "0"} | overrides)
    cases = [Case(Recording(env, episodes, STEPS, seed, DECIMALS, {}), values, starts, out) for env in envs]
    results = {}
    for case, found in zip(cases, side_by_side(study, [(case,) for case in cases], jobs), strict=True):
        results[case.recording.env] = found
        print(f"\n{case.recording.env}\n{tables(found)}", flush=True)
    (out / "executed.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def study(case: Case) -> dict[str, Any]:
    """What executed.json says of an environment."""
    folder = trained(case)
    bundle = find_bundle(folder / "worldmodel")
    model, scaler = WorldModel.load(bundle), Scaler.read(bundle / "normalizer.json")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with closing(make(case.recording)) as env:
        simulator = Simulator(env, case.recording)
        starts = simulator.starts(case.starts, model.history, LONG)
        outcomes = {
            kind: outcome(simulator, model, scaler, starts, plan)
            for kind, plan in plans(simulator, model, starts, model.horizon)
        }
        grown = growth(simulator, model, scaler, starts)
    every = Outcome(*(np.stack(each) for each in zip(*outcomes.values(), strict=True)))
    rows = {kind: summary(Outcome(*(part[None] for part in each))) for kind, each in outcomes.items()}
    logs = {name: metrics[name] for name in ("mse", "termination", "disagreement", "start") if name in metrics}
    found: dict[str, Any] = rounded({"plans": rows | {"all": summary(every)}, "growth": grown, "test": logs})
    return found


def trained(case: Case) -> Path:
    """Folder of the run, made where it is not there yet. Raises ValueError where other params have made it."""
    asked, text = case.recording, yaml.safe_dump(dict(case.values))
    folder = case.folder / f"{asked.env}-{asked.episodes}-{asked.seed}".replace("/", "-")
    logs, params = folder / "logs" / "log.jsonl.gz", folder / "params.yaml"
    logs.parent.mkdir(parents=True, exist_ok=True)
    if not logs.exists():
        with closing(make(asked)) as env:
            write(record(env, asked), logs)
    if params.exists() and params.read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder}: was made with other params; name another --out, or delete it")
    params.write_text(text, encoding="utf-8")
    if not (folder / "run" / "metrics.json").exists():
        given = {"--logs": logs.parent, "--out": folder / "run", "--params": params}
        train.command.main([str(word) for pair in given.items() for word in pair], standalone_mode=False)
    return folder / "run"


def outcome(simulator: Simulator, model: WorldModel, scaler: Scaler, starts: Sequence[Start], plan: Floats) -> Outcome:
    """Of one plan [K, A] for each start, [N, K]."""
    executed = [simulator.execute(start, each) for start, each in zip(starts, plan, strict=True)]
    frames, valid = np.stack([each.frames for each in executed]), np.stack([each.valid for each in executed])
    future = model.predict(model.encode(*histories(starts, model.history)), plan)
    if future.disagreement is None:
        raise ValueError(f"bundle {model.run_id} says no disagreement; export it anew")
    moving, spread = ~scaler.constant, scaler.features.spread
    residual = scaler.features.residual(future.features, frames.astype(np.float32))[..., moving].astype(np.float64)
    std = (future.std / spread)[..., moving].astype(np.float64)
    width, both = model.half_width(SHARE), np.hypot(std, future.disagreement[..., None])
    within, within_std = ((np.abs(residual) <= width * each).mean(axis=-1) for each in (both, std))
    parts = np.square(residual).mean(-1), future.disagreement, np.square(std).mean(-1), within, within_std
    return Outcome(*(np.where(valid, part, np.nan) for part in parts))


def summary(found: Outcome) -> dict[str, float]:
    """Of plans [P, N, K]."""
    error, doubt, variance = (np.nanmean(part, axis=-1) for part in found[:3])
    low, high = interval(doubt, error)
    return {
        "plans": error.size,
        "frames": float((~np.isnan(found.squared)).sum(axis=-1).mean()),
        "error": float(error.mean()),
        "disagreement": float(doubt.mean()),
        "std": float(np.sqrt(variance).mean()),
        "rank": rank_correlation(doubt, error),
        "low": low,
        "high": high,
        "rank_std": rank_correlation(variance, error),
        "rank_both": rank_correlation(variance + np.square(doubt), error),
        "within": float(np.nanmean(found.within)),
        "within_std": float(np.nanmean(found.within_std)),
    }


def interval(doubt: Doubles, error: Doubles) -> tuple[float, float]:
    """That holds 95 % of the rank correlations of plans [P, N] from starts drawn anew."""
    rng, number = np.random.default_rng(SEED), error.shape[1]
    draws = (rng.integers(number, size=number) for _ in range(DRAWS))
    found = [rank_correlation(doubt[:, drawn], error[:, drawn]) for drawn in draws]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def growth(
    simulator: Simulator, model: WorldModel, scaler: Scaler, starts: Sequence[Start]
) -> dict[str, dict[str, float]]:
    """By frame of long plans, the agents' own: how many last so long, and what the model and the held frame miss."""
    found = outcome(simulator, model, scaler, starts, np.stack([start.onwards(LONG) for start in starts]))
    frames = np.stack([start.frames[start.reached :][: LONG + 1] for start in starts]).astype(np.float32)
    off = scaler.features.residual(np.broadcast_to(frames[:, :1], frames[:, 1:].shape), frames[:, 1:])
    held = np.where(np.isnan(found.squared), np.nan, np.square(off[..., ~scaler.constant]).mean(axis=-1))
    named = {"error": found.squared, "hold_last": held, "variance": found.variance, "within": found.within}
    counts = (~np.isnan(held)).sum(axis=0)
    return {
        str(frame): {"plans": int(counts[frame - 1])}
        | {name: float(np.nanmean(part[:, frame - 1])) for name, part in named.items()}
        for frame in SHOWN
        if counts[frame - 1]
    }


def tables(found: Mapping[str, Any]) -> str:
    parts = []
    for name, title in (("plans", "plans"), ("growth", "frame")):
        rows = found[name]
        header = (title, *next(iter(rows.values())))
        parts.append(aligned(header, [(key, *(f"{value:.3g}" for value in row.values())) for key, row in rows.items()]))
    return "\n\n".join([*parts, json.dumps(found["test"])])


if __name__ == "__main__":
    run(command)
