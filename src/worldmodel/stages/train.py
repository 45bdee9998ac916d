"""packed arrays, artifacts/normalizer.json -> artifacts/train (weights, manifest), curves of loss and rho.

Trains on train windows, observed and dreamed in exact shares; selects and calibrates on observed val windows. Then a
policy is trained in the model, where the logs hold rewards and continuous actions.
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

from worldmodel.arrays.mixing import Mixture, RhoSchedule
from worldmodel.arrays.packing import read_packed
from worldmodel.arrays.scaler import UNITS, Scaler
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.checkpoints.checkpoint import Checkpoints, checkpoints_of, graceful_shutdown
from worldmodel.core import params, timing
from worldmodel.core.atomic import publishing
from worldmodel.core.fingerprint import fingerprint, sha256, stage_code
from worldmodel.core.options import PATH, params_option
from worldmodel.core.stage_run import begin
from worldmodel.core.tables import six_digits
from worldmodel.core.versions import installed
from worldmodel.model import footprint
from worldmodel.model.artifact import OWN, Trained, write_trained
from worldmodel.model.baselines import floor_errors
from worldmodel.model.calibration import calibrate, calibrate_termination
from worldmodel.model.disagreement import fit_disagreement
from worldmodel.model.initialization import new_model
from worldmodel.model.linear_start import roomy
from worldmodel.model.live_curves import write_curves
from worldmodel.model.objective import Objective
from worldmodel.model.optimization import learning_rate, new_optimizer, should_evaluate, train_step
from worldmodel.model.policy_training import trained_policy
from worldmodel.model.selection import BestWeights, choose_damping, mean_error, subsample
from worldmodel.model.shape import Shape
from worldmodel.model.shrinking import shrink
from worldmodel.model.tensors import to_device
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
    with publishing(out, own=OWN) as (folder,):
        trained, speed = _train(normalized, normalizer, plots, settings, device, checkpoints)
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
) -> tuple[Trained, dict[str, float]]:
    """The trained model, and how fast it was trained."""
    data, scaler = read_packed(normalized), Scaler.read(normalizer)
    data.require_scales(scaler, normalizer)

    mixture, held_out = training_and_val_windows(data.packed, settings)
    footprint.require_for_training(_shape(data.packed, settings), settings, len(held_out), device)

    # From ridge to the selected, calibrated weights
    model = initial_model(data.packed, settings, device)
    run = fit(model, mixture, subsample(held_out), settings, device, checkpoints=checkpoints, plots=plots)

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


def training_and_val_windows(packed: Packed, settings: params.Train) -> tuple[Mixture, Windows]:
    """What is trained on, and what is selected on."""
    observed, dreamed = (
        windows(packed, packed.where("train", source), settings.history, settings.horizon)
        for source in ("observed", "dream")
    )
    rho = RhoSchedule(settings.rho_schedule, settings.rho_start, settings.rho, settings.steps)
    weigh = settings.dream_weighting == "confidence"
    return Mixture(observed, dreamed, settings.batch_size, rho, settings.seed, weigh), _held_out(packed, settings)


def _held_out(packed: Packed, settings: params.Train) -> Windows:
    return windows(packed, packed.where("val", "observed"), settings.history, settings.horizon)


def initial_model(packed: Packed, settings: params.Train, device: torch.device) -> WorldModel:
    """The model that training starts from: seeded, and as good as the linear model."""
    held_out, shape = subsample(_held_out(packed, settings)), _shape(packed, settings)
    return new_model(shape, packed, packed.where("train"), settings.seed, device, held_out=held_out)


def _shape(packed: Packed, settings: params.Train) -> Shape:
    return Shape(
        features=packed.features.shape[1],
        actions=packed.actions.shape[1],
        rewards=packed.rewards is not None,
        history=settings.history,
        horizon=settings.horizon,
        z_dim=roomy(settings.z_dim, packed.each(packed.features, packed.where("train"))),
        hidden_dim=settings.hidden_dim,
        encoder=settings.encoder,
        context_spread=settings.kl_weight > 0,
        context=packed.context_count,
        masked=packed.missing,
        terminals=packed.ends(packed.where("train")),
    )


def objective(settings: params.Train, t: int) -> Objective:
    """What step t minimizes."""
    likelihood = t >= settings.nll_start * settings.steps
    return Objective(settings.kl_weight, settings.contrastive_weight, likelihood, draw=(settings.seed, t))


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
) -> Run:
    """Train `model` in place for settings.steps steps and leave the weights that do best on held-out windows, with what
    these take back of them and the std that these ask for.

    Goes on from the latest checkpoint, to the same bits. The curves in `plots` grow with each evaluation.
    """
    optimizer, start = new_optimizer(model), copy.deepcopy(model.state_dict())
    of_context = objective(settings, 0).names
    shown, series = ("mse", *of_context), ("train", *of_context)
    saved = checkpoints.latest() if checkpoints else None
    if saved:
        state = TrainingState.resumed(saved, model, optimizer, device)
    else:
        state = TrainingState(BestWeights(0, math.inf, start), torch.zeros(len(shown), device=device))
    if saved and plots:
        write_curves(plots, state, mixture)
    bar = tqdm(total=settings.steps, initial=state.step, desc="train", unit="step", mininterval=1.0)
    with graceful_shutdown(checkpoints), bar as progress:
        for t in range(state.step, settings.steps):
            begin = time.perf_counter()
            batch = to_device(mixture.batch(t), device)
            rate = learning_rate(t, settings.steps, settings.lr)
            parts = train_step(model, optimizer, batch, rate, objective(settings, t))
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


@click.command(help="Train one world model on packed episodes.")
@click.option("--normalized", type=PATH, required=True, help="Folder of packed arrays.")
@click.option("--normalizer", type=PATH, required=True, help="Scales that normalize wrote.")
@click.option("--out", type=PATH, required=True, help="Folder for weights and manifest.")
@click.option("--plots", type=PATH, required=True, help="Folder for loss.csv and rho.csv.")
@click.option("--timing", type=PATH, required=True, help="File for what the clock says.")
@params_option
def command(normalized: Path, normalizer: Path, out: Path, plots: Path, timing: Path, params_file: Path) -> None:
    settings = params.load(params_file, params.TrainStage)
    inputs = {"normalized": normalized, "normalizer": normalizer}
    run = begin("train", settings, inputs, LIBRARIES)
    with checkpoints_of(run) as checkpoints, run.record(params_file):
        train(normalized, normalizer, out, plots, timing, settings.train, checkpoints)
