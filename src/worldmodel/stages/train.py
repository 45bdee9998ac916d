"""packed arrays, artifacts/normalizer.json -> artifacts/train (weights, manifest), curves of loss and rho.

Trains on train windows, observed and dreamed in exact shares; selects and calibrates on observed val windows. Then a
policy is trained in the model, where the logs hold rewards and continuous actions. The steps may be taken by several
processes.
"""

import copy
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.packing import PackedData, read_packed
from worldmodel.arrays.scaler import UNITS, Scaler
from worldmodel.arrays.windows import Windows
from worldmodel.checkpoints.checkpoint import Checkpoints, checkpoints_of, graceful_shutdown
from worldmodel.core import params, timing
from worldmodel.core.atomic import publishing
from worldmodel.core.fingerprint import fingerprint, sha256, stage_code
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.core.tables import six_digits
from worldmodel.core.versions import installed
from worldmodel.model import footprint, processes
from worldmodel.model.artifact import OWN, Trained, write_trained
from worldmodel.model.baselines import floor_errors
from worldmodel.model.calibration import calibrate, calibrate_termination
from worldmodel.model.disagreement import fit_disagreement
from worldmodel.model.inputs import initial_model, shape_of, training_and_val_windows
from worldmodel.model.live_curves import write_curves
from worldmodel.model.objective import objective_at, shard_count
from worldmodel.model.optimization import new_optimizer, should_evaluate
from worldmodel.model.policy_training import trained_policy
from worldmodel.model.selection import BestWeights, choose_damping, mean_error, subsample
from worldmodel.model.sharding import Team
from worldmodel.model.shrinking import shrink
from worldmodel.model.training_state import TrainingState
from worldmodel.model.world_model import WorldModel
from worldmodel.numerics import setup
from worldmodel.numerics.isolation import portable

LIBRARIES = ("numpy", "pyyaml", "safetensors", "torch")
EVALUATIONS = 20  # on the val windows
REFRESH = 25  # steps between two texts of the progress bar


@portable
def train(
    normalized: Path,
    normalizer: Path,
    out: Path,
    plots: Path,
    clock: Path,
    settings: params.Train,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Train one model and write it; returns its manifest.

    Raises ValueError where inputs do not belong together, where there is no window, or no dream for rho.
    """
    device = setup.configure(settings)
    others = processes.leading(settings, follow, normalized, settings)
    with publishing(out, own=OWN) as (folder,), others as place:
        trained, speed = _train(normalized, normalizer, plots, settings, device, checkpoints, place)
        manifest = write_trained(folder, trained)
    timing.record(clock, "train", fingerprint(manifest)[:12], speed)
    return manifest


def _train(
    normalized: Path,
    normalizer: Path,
    plots: Path,
    settings: params.Train,
    device: torch.device,
    checkpoints: Checkpoints | None,
    place: processes.Place,
) -> tuple[Trained, dict[str, float]]:
    """The trained model, and how fast it was trained."""
    data, scaler = read_packed(normalized), Scaler.read(normalizer)
    data.require_scales(scaler, normalizer)

    mixture, held_out = training_and_val_windows(data.packed, settings)
    footprint.require_for_training(shape_of(data.packed, settings), settings, len(held_out), device)

    # From ridge to the selected, calibrated weights
    model = initial_model(data.packed, settings, device)
    team = processes.joined(place, settings, device, _work(data, settings, device))
    run = fit(model, mixture, subsample(held_out), settings, device, checkpoints=checkpoints, plots=plots, team=team)
    processes.leave()

    errors = floor_errors(data.packed, subsample(held_out))
    floors = {name: six_digits(error) for name, error in errors.items()}

    if run.selected_error is not None:
        unit = f"squared, in {UNITS[scaler.method]} of the observed train frames"
        print(f"weights of step {run.selected_step} kept: error {run.selected_error:.4g} on val windows ({unit})")

    # Weights and manifest
    manifest: dict[str, Any] = {
        "arguments": asdict(settings),
        "shape": model.shape.to_dict(),
        "action_kind": data.action_space.kind,
        "data": {"arrays": data.digests, "normalizer": sha256(normalizer)},
        "windows": {"observed": len(mixture.observed), "dream": len(mixture.dreams), "val": len(held_out)},
        "dreams_drawn": mixture.dreams_by(settings.steps),
        "selected": {"step": run.selected_step, "val_mse": run.selected_error, "floors": floors},
        "bits": setup.bits(settings, device),
        "versions": installed(LIBRARIES),
        "code": fingerprint(stage_code("train")),
    }
    known: dict[str, Any] = {"columns": described(scaler), "interval_s": data.interval_s}
    manifest |= {name: value for name, value in known.items() if value}
    policy = trained_policy(model, data.packed, scaler, settings, device)
    return Trained(model.cpu().eval(), manifest, policy and policy.cpu()), run.speed(settings.batch_size)


def described(scaler: Scaler) -> dict[str, list[dict[str, str]]]:
    """What is known of the columns of features, actions and context."""
    parts = {"features": scaler.features, "actions": scaler.actions, "context": scaler.context}
    return {
        part: [{"name": each.name, "unit": each.unit, "kind": each.kind} for each in affine.columns]
        for part, affine in parts.items()
        if affine.columns
    }


@dataclass(frozen=True)
class Run:
    """What one training run leaves beside the weights."""

    losses: list[tuple[int, str, float]]  # step; train, val or a loss of z's context; mean since the step before
    selected_step: int
    selected_error: float | None  # on val windows, None without them
    steps: int
    seconds: float  # spent on steps alone

    def speed(self, batch_size: int) -> dict[str, float]:
        per_step = self.seconds / self.steps
        return {"ms_per_batch": 1e3 * per_step, "samples_per_s": batch_size / per_step}


def fit(
    model: WorldModel,
    mixture: Mixture,
    held_out: Windows,
    settings: params.Train,
    device: torch.device,
    evaluations: int = EVALUATIONS,
    checkpoints: Checkpoints | None = None,
    plots: Path | None = None,
    team: Team | None = None,
) -> Run:
    """Train `model` in place for settings.steps steps and leave the weights that do best on held-out windows, with what
    these take back of them and the std that these ask for.

    Goes on from the latest checkpoint, to the same bits, with whoever else is in the team. The curves in `plots` grow
    with each evaluation.
    """
    team = team or Team(shard_count(settings))
    optimizer, start = new_optimizer(model), copy.deepcopy(model.state_dict())
    of_context = objective_at(0, settings).names
    shown, series = ("mse", *of_context), ("train", *of_context)
    saved = checkpoints.latest() if checkpoints else None
    if saved:
        state = TrainingState.resumed(saved, model, optimizer, device)
    else:
        state = TrainingState(BestWeights(0, math.inf, start), torch.zeros(len(shown), device=device))
    if saved and plots:
        write_curves(plots, state, mixture)
    team.begin(state.state(model, optimizer), device)
    bar = tqdm(total=settings.steps, initial=state.step, desc="train", unit="step", mininterval=1.0)
    with graceful_shutdown(checkpoints), bar as progress:
        for t in range(state.step, settings.steps):
            begin = time.perf_counter()
            parts = team.step(t, model, optimizer, mixture, settings, device)
            state.add(torch.stack([parts[name] for name in shown]), time.perf_counter() - begin)
            if (t + 1) % REFRESH == 0:
                progress.set_postfix_str(state.progress(shown, settings.batch_size), refresh=False)
            if should_evaluate(t, settings.steps, evaluations):
                state.record_evaluation(BestWeights.at(model, held_out, t + 1, device), series)
                if plots:
                    write_curves(plots, state, mixture)
            if checkpoints and checkpoints.due(t + 1):
                checkpoints.save(t + 1, state.state(model, optimizer))
            progress.update()
    model.load_state_dict(state.best.weights)
    choose_damping(model, held_out, device)
    shares = shrink(model, start, held_out, device)
    calibrate(model, start, held_out, device)
    calibrate_termination(model, held_out, device)
    fit_disagreement(model, mixture.observed if len(mixture.observed) else mixture.dreams, held_out, device)
    error = mean_error(model, held_out, device)
    val_error = six_digits(error) if math.isfinite(error) else None
    step = state.best.step if shares.any() else 0
    return Run(state.losses, step, val_error, settings.steps, state.seconds)


def follow(normalized: Path, settings: params.Train, place: processes.Place) -> None:
    """Take the steps that the first process takes, from where it begins, and nothing else.

    Raises Lost where that ends before the last one, ValueError where it has been given something else.
    """
    device, data = setup.configure(settings, quiet=True), read_packed(normalized)
    mixture, _ = training_and_val_windows(data.packed, settings)
    team = processes.joined(place, settings, device, _work(data, settings, device))
    model = WorldModel(shape_of(data.packed, settings)).to(device)
    optimizer = new_optimizer(model)
    state = TrainingState.resumed(team.begun(device), model, optimizer, device)
    for t in range(state.step, settings.steps):
        team.step(t, model, optimizer, mixture, settings, device)
    processes.leave()


def _work(data: PackedData, settings: params.Train, device: torch.device) -> str:
    """What processes must have in common to take steps together."""
    return fingerprint(
        {"settings": asdict(settings), "arrays": data.digests, "bits": setup.bits(settings, device)}
        | {"versions": installed(LIBRARIES), "code": stage_code("train")}
    )


@click.command(help="Train one world model on packed episodes.")
@click.option("--normalized", type=PATH, required=True, help="Folder of packed arrays.")
@click.option("--normalizer", type=PATH, required=True, help="Scales that normalize wrote.")
@click.option("--out", type=PATH, required=True, help="Folder for weights and manifest.")
@click.option("--plots", type=PATH, required=True, help="Folder for loss.csv and rho.csv.")
@click.option("--timing", type=PATH, required=True, help="File for what the clock says.")
@params_option
def command(normalized: Path, normalizer: Path, out: Path, plots: Path, timing: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.TrainStage)
    if processes.rank():
        return processes.follow_torchrun(settings.train, follow, normalized, settings.train)
    inputs = {"normalized": normalized, "normalizer": normalizer}
    run = begin("train", settings, inputs, LIBRARIES)
    with checkpoints_of(run) as checkpoints, run.record(params_file):
        train(normalized, normalizer, out, plots, timing, settings.train, checkpoints)
