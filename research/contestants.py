"""What bench.py times: the pipeline's own training loop, what it could be, and what it would be without care."""

import contextlib
import copy
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from research.plain import PlainWorldModel, plain_optimizer, plain_update
from worldmodel.arrays.packing import PackedData
from worldmodel.arrays.windows import Windows
from worldmodel.checkpoints.checkpoint import EVERY, Checkpoints
from worldmodel.core import params
from worldmodel.model.objective import PREDICTION_ALONE, total_loss
from worldmodel.model.optimization import new_optimizer, train_step
from worldmodel.model.selection import BestWeights, subsample
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.training_state import TrainingState
from worldmodel.model.world_model import WorldModel
from worldmodel.stages.train import fit, initial_model, objective, training_and_val_windows

SQUARE = 1024  # rows and columns of the matrices of the reference product
PRODUCTS = 20  # reference products a round

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

Seconds = NDArray[np.float64]  # [rounds], of one step, look, checkpoint or product
Run = Callable[[], object]
Clock = str  # of CLOCKS


@dataclass(frozen=True)
class Contestant:
    seconds: Callable[[], float]  # of one run
    repeats: int  # steps, looks, checkpoints or products in it


def contestants(
    data: PackedData,
    settings: params.Train,
    steps: int,
    sizes: tuple[int, ...],
    device: torch.device,
    folder: Path,
    clock: Clock,
) -> dict[str, Contestant]:
    """Name -> what is timed in every round; all start from the same weights.

    `sizes`: batches to count FLOP/s at. `folder`: for checkpoints.
    """
    model = initial_model(data.packed, settings, device)
    _, held_out = training_and_val_windows(data.packed, settings)
    brief = replace(settings, steps=steps)
    resident = batch_of(data, settings, settings.batch_size, device)
    runs = {
        "pipeline": pipeline(data, settings, steps, device),
        "bare": _bare(copy.deepcopy(model), resident, brief),
        "plain": _plain(PlainWorldModel.like(model), resident, brief),
        "unfused": _plain(PlainWorldModel.like(model, written_out=True), resident, brief),
    }
    for size in sizes:
        batch = batch_of(data, settings, size, device)
        runs[f"batch {size}"] = _bare(copy.deepcopy(model), batch, brief)
    found = {name: Contestant(timed(run, device, clock), steps) for name, run in runs.items()}
    look = _look(copy.deepcopy(model), subsample(held_out), device)
    saving = _saving(copy.deepcopy(model), resident, settings.lr, folder, device)
    found["look"] = Contestant(timed(look, device, clock), 1)
    found["checkpoint"] = Contestant(timed(saving, device, "wall"), 1)  # which waits for the disk
    found["product"] = Contestant(timed(_product(device), device, clock), PRODUCTS)
    return found


def measure(entered: dict[str, Contestant], rounds: int) -> dict[str, Seconds]:
    """Name -> seconds of one step (look, checkpoint, product) in each round; a first, untimed round warms up."""
    names = list(entered)
    found = {name: np.zeros(rounds) for name in names}
    for contestant in entered.values():
        contestant.seconds()
    for turn in range(rounds):
        for index in range(len(names)):
            name = names[(turn + index) % len(names)]
            found[name][turn] = entered[name].seconds() / entered[name].repeats
    return found


def batch_of(data: PackedData, settings: params.Train, size: int, device: torch.device) -> Tensors:
    """The first batch of a training with so many windows a batch."""
    mixture, _ = training_and_val_windows(data.packed, replace(settings, batch_size=size))
    return to_device(mixture.batch(0), device)


def flops(model: WorldModel, batch: Tensors) -> int:
    """Of forward and backward, matrix products alone: two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        loss, _ = total_loss(model, batch, PREDICTION_ALONE)
        loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def timed(run: Run, device: torch.device, clock: Clock) -> Callable[[], float]:
    """What takes the seconds of one run."""
    now = CLOCKS[clock]

    def seconds() -> float:
        _wait(device)
        begin = now()
        run()
        _wait(device)
        return now() - begin

    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pipeline(data: PackedData, settings: params.Train, steps: int, device: torch.device) -> Run:
    """train.py's loop as it is: batches, updates, sums, progress bar.

    Nothing is held out: looks at the val windows are timed apart, as so short a training would spend most of its time
    on them. So are checkpoints, of which there would be none.
    """
    brief = replace(settings, steps=steps)
    model = initial_model(data.packed, settings, device)
    mixture, held_out = training_and_val_windows(data.packed, brief)
    nothing = held_out.at(np.empty(0, np.int64))

    def run() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            fit(model, mixture, nothing, brief, device, evaluations=1)

    return run


def _look(model: WorldModel, held_out: Windows, device: torch.device) -> Run:
    return lambda: BestWeights.at(model, held_out, 0, device)


def _saving(model: WorldModel, batch: Tensors, rate: float, folder: Path, device: torch.device) -> Run:
    """A checkpoint as `fit` writes it: model, optimizer, the best weights so far."""
    optimizer = new_optimizer(model)
    train_step(model, optimizer, batch, rate)
    best = BestWeights(0, 0.0, {name: value.clone() for name, value in model.state_dict().items()})
    state = TrainingState(best, torch.zeros(1, device=device))
    kept, numbers = Checkpoints(folder, EVERY), count(1)
    return lambda: kept.save(next(numbers), state.state(model, optimizer))


def _bare(model: WorldModel, batch: Tensors, settings: params.Train) -> Run:
    """Forward, backward, clip and optimizer on one batch that is on the device, for what training minimizes."""
    optimizer = new_optimizer(model)

    def run() -> None:
        for t in range(settings.steps):
            train_step(model, optimizer, batch, settings.lr, objective(settings, t))

    return run


def _plain(model: PlainWorldModel, batch: Tensors, settings: params.Train) -> Run:
    optimizer = plain_optimizer(model, settings.lr)

    def run() -> None:
        for t in range(settings.steps):
            plain_update(model, optimizer, batch, objective(settings, t).likelihood)

    return run


def _product(device: torch.device) -> Run:
    one, other = torch.rand(2, SQUARE, SQUARE, device=device).unbind()
    out = torch.empty_like(one)

    def run() -> None:
        for _ in range(PRODUCTS):
            torch.mm(one, other, out=out)

    return run
