"""What bench.py times: the pipeline's own training loop, what it could be, and what it would be without care."""

import contextlib
import copy
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from plain import PlainWorldModel, plain_optimizer, plain_update
from train import fit, sources, untrained
from worldmodel.config import params
from worldmodel.data.mixing import Mixture
from worldmodel.data.packing import PackedData
from worldmodel.data.windows import Windows
from worldmodel.learning import learner
from worldmodel.learning.learner import Tensors
from worldmodel.learning.model import WorldModel

SQUARE = 1024  # rows and columns of the matrices of the reference product
PRODUCTS = 20  # reference products a round

Seconds = NDArray[np.float64]  # [rounds], of one step, look or product
Run = Callable[[], object]


@dataclass(frozen=True)
class Contestant:
    run: Run
    repeats: int  # steps, looks or products in one run


def contestants(
    data: PackedData, settings: params.Train, steps: int, sizes: tuple[int, ...], device: torch.device
) -> dict[str, Contestant]:
    """Name -> what is timed in every round; all start from the same weights. `sizes`: batches to count FLOP/s at."""
    model = untrained(data, settings, device)
    brief = replace(settings, steps=steps)
    mixture, held_out = sources(data, brief)
    resident = batch_of(data, settings, settings.batch_size, device)
    runs = {
        "pipeline": _pipeline(copy.deepcopy(model), mixture, held_out, brief, device),
        "bare": _bare(copy.deepcopy(model), resident, settings.lr, steps),
        "plain": _plain(PlainWorldModel.like(model), resident, settings.lr, steps),
        "unfused": _plain(PlainWorldModel.like(model, written_out=True), resident, settings.lr, steps),
    }
    for size in sizes:
        batch = batch_of(data, settings, size, device)
        runs[f"batch {size}"] = _bare(copy.deepcopy(model), batch, settings.lr, steps)
    found = {name: Contestant(run, steps) for name, run in runs.items()}
    found["look"] = Contestant(_look(copy.deepcopy(model), learner.thinned(held_out), device), 1)
    found["product"] = Contestant(_product(device), PRODUCTS)
    return found


def measure(entered: dict[str, Contestant], rounds: int, device: torch.device) -> dict[str, Seconds]:
    """Name -> seconds of one step (look, product) in each round; a first, untimed round warms up."""
    names = list(entered)
    found = {name: np.zeros(rounds) for name in names}
    for contestant in entered.values():
        _timed(contestant, device)
    for turn in range(rounds):
        for index in range(len(names)):
            name = names[(turn + index) % len(names)]
            found[name][turn] = _timed(entered[name], device)
    return found


def batch_of(data: PackedData, settings: params.Train, size: int, device: torch.device) -> Tensors:
    """The first batch of a training with so many windows a batch."""
    mixture, _ = sources(data, replace(settings, batch_size=size))
    return learner.to_device(mixture.batch(0), device)


def flops(model: WorldModel, batch: Tensors) -> int:
    """Of forward and backward, matrix products alone: two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        loss, _ = learner.whole_loss(model, batch, learner.PREDICTION_ALONE)
        loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _timed(contestant: Contestant, device: torch.device) -> float:
    _wait(device)
    begin = time.perf_counter()
    contestant.run()
    _wait(device)
    return (time.perf_counter() - begin) / contestant.repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _pipeline(
    model: WorldModel, mixture: Mixture, held_out: Windows, settings: params.Train, device: torch.device
) -> Run:
    """train.py's loop as it is: batches, updates, sums, progress bar.

    Nothing is held out: looks at the val windows are timed apart, as so short a training would spend most of its time
    on them.
    """
    nothing = held_out.at(np.empty(0, np.int64))

    def run() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            fit(model, mixture, nothing, settings, device, evaluations=1)

    return run


def _look(model: WorldModel, held_out: Windows, device: torch.device) -> Run:
    return lambda: learner.Selected.at(model, held_out, 0, device)


def _bare(model: WorldModel, batch: Tensors, rate: float, steps: int) -> Run:
    """Forward, backward, clip and optimizer on one batch that is on the device."""
    optimizer = learner.new_optimizer(model)

    def run() -> None:
        for _ in range(steps):
            learner.update(model, optimizer, batch, rate)

    return run


def _plain(model: PlainWorldModel, batch: Tensors, rate: float, steps: int) -> Run:
    optimizer = plain_optimizer(model, rate)

    def run() -> None:
        for _ in range(steps):
            plain_update(model, optimizer, batch)

    return run


def _product(device: torch.device) -> Run:
    one, other = torch.rand(2, SQUARE, SQUARE, device=device).unbind()
    out = torch.empty_like(one)

    def run() -> None:
        for _ in range(PRODUCTS):
            torch.mm(one, other, out=out)

    return run
