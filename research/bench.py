"""How fast training and planning are, beside what they could be.

All contestants run in every round, in an order that rotates, and a ratio is the median of its rounds' ratios: what else
the machine does hits both sides alike. A whole training is its steps and, of its evaluations on val windows, the share
that falls to a step.
"""

import contextlib
import copy
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from research import planning
from research.unfused import Unfused
from worldmodel.arrays.packing import PackedData, read_packed
from worldmodel.checkpoints.checkpoint import EVERY, SHARE, Checkpoints
from worldmodel.core import params
from worldmodel.core.atomic import replacing
from worldmodel.core.errors import run
from worldmodel.core.options import PATH, params_option
from worldmodel.core.typing import Doubles
from worldmodel.model.inputs import initial_model, training_and_val_windows
from worldmodel.model.objective import PREDICTION_ALONE, objective_at, total_loss
from worldmodel.model.optimization import new_optimizer, train_step
from worldmodel.model.selection import DAMPINGS, BestWeights, subsample
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.training_state import TrainingState
from worldmodel.model.world_model import WorldModel
from worldmodel.numerics import setup
from worldmodel.stages.train import EVALUATIONS, fit

LARGE = 256  # windows a batch where FLOP/s are measured beside the batch size of the params
CALLS = 100  # of control, a round
SQUARE, PRODUCTS = 1024, 20  # rows of the matrices of the reference product, and products a round
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
OTHER: dict[str, Literal["portable", "fast"]] = {"portable": "fast", "fast": "portable"}

Step = Callable[[int], object]
Seconds = Callable[[], float]  # of one step, evaluation, checkpoint or product, when it is called


@dataclass(frozen=True)
class Ratio:
    name: str
    meaning: str
    to_reach: str  # such as ">= 0.9"; empty where there is no bar
    rounds: Doubles  # [rounds]

    def __str__(self) -> str:
        low, median, high = np.percentile(self.rounds, [25, 50, 75])
        return f"{self.name:15}{median:8.4f}{low:8.4f}{high:8.4f}{self.to_reach:>10}  {self.meaning}"


def contestants(
    data: PackedData, settings: params.Train, steps: int, device: torch.device, folder: Path, clock: str
) -> dict[str, Seconds]:
    """Name -> what is timed in every round; all start from the same weights. `folder`: for checkpoints."""
    model, brief = initial_model(data.packed, settings, device), replace(settings, steps=steps)
    resident, large = (batch_of(data, settings, size, device) for size in (settings.batch_size, LARGE))
    held_out = subsample(training_and_val_windows(data.packed, settings)[1])
    one, other = torch.rand(2, SQUARE, SQUARE, device=device).unbind()
    out = torch.empty_like(one)
    repeated: dict[str, tuple[Step, int]] = {
        "bare": (_bare(copy.deepcopy(model), resident, brief), steps),
        "large": (_bare(copy.deepcopy(model), large, brief), steps),
        "unfused": (_unfused(Unfused(model), resident, brief), steps),
        "evaluation": (lambda _: BestWeights.at(model, held_out, 0, device), 1),
        "product": (lambda _: torch.mm(one, other, out=out), PRODUCTS),
    }
    for name, call in planning.contestants(model.shape, folder, settings.threads).items():
        repeated[name] = _alike(call), CALLS if name in ("call", "environments") else 1
    return {name: timed(step, repeats, device, clock) for name, (step, repeats) in repeated.items()} | {
        "steps": pipeline(data, settings, steps, device, clock),
        "checkpoint": timed(_saving(copy.deepcopy(model), resident, folder, device), 1, device, "wall"),  # of the disk
    }


def _alike(call: Callable[[], object]) -> Step:
    """Every step the same."""
    return lambda _: call()


def batch_of(data: PackedData, settings: params.Train, size: int, device: torch.device) -> Tensors:
    """The first batch of a training with so many windows a batch."""
    mixture, _ = training_and_val_windows(data.packed, replace(settings, batch_size=size))
    return to_device(mixture.batch(0), device)


def timed(step: Step, repeats: int, device: torch.device, clock: str) -> Seconds:
    """What repeats the step and tells the seconds of one."""
    now = CLOCKS[clock]

    def seconds() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = now()
        for t in range(repeats):
            step(t)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (now() - begin) / repeats

    return seconds


def pipeline(data: PackedData, settings: params.Train, steps: int, device: torch.device, clock: str) -> Seconds:
    """The stage's own loop. Nothing is held out: so short a training would spend most of its time on val windows."""
    brief, model = replace(settings, steps=steps), initial_model(data.packed, settings, device)
    mixture, held_out = training_and_val_windows(data.packed, brief)
    nothing = held_out.at(np.empty(0, np.int64))

    def train(_: int) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            fit(model, mixture, nothing, brief, device, evaluations=1)

    whole = timed(train, 1, device, clock)
    return lambda: whole() / steps


def _bare(model: WorldModel, batch: Tensors, settings: params.Train) -> Step:
    """Forward, backward, clip and optimizer on one batch that is on the device, for what training minimizes."""
    optimizer = new_optimizer(model)
    return lambda t: train_step(model, optimizer, batch, settings.lr, objective_at(t, settings))


def _unfused(model: Unfused, batch: Tensors, settings: params.Train) -> Step:
    optimizer = model.new_optimizer(settings.lr)
    return lambda t: model.update(optimizer, batch, objective_at(t, settings).likelihood)


def _saving(model: WorldModel, batch: Tensors, folder: Path, device: torch.device) -> Step:
    """A checkpoint as `fit` writes it: model, optimizer, the best weights so far."""
    optimizer = new_optimizer(model)
    train_step(model, optimizer, batch, 0.0)
    best = BestWeights(0, 0.0, copy.deepcopy(model.state_dict()))
    course, kept, numbers = TrainingState(best, torch.zeros(1, device=device)), Checkpoints(folder, EVERY), count(1)
    return lambda _: kept.save(next(numbers), course.state(model, optimizer))


@contextlib.contextmanager
def other_numerics(normalized: Path, settings: params.Train, steps: int, clock: str) -> Iterator[tuple[Seconds, str]]:
    """The pipeline's loop under the other numerics, and what computes it: another process, as one chooses only once."""
    swapped = replace(settings, numerics=OTHER[settings.numerics])
    removed = {name: os.environ.pop(name) for name in setup.PORTABLE if name in os.environ}
    with ProcessPoolExecutor(1, get_context("spawn"), _begin_other, (normalized, swapped, steps, clock)) as pool:
        processor = pool.submit(torch.backends.cpu.get_cpu_capability).result()
        os.environ.update(removed)
        yield lambda: pool.submit(_call_other).result(), processor


_other: list[Seconds] = []  # in that process


def _begin_other(normalized: Path, settings: params.Train, steps: int, clock: str) -> None:
    _other.append(pipeline(read_packed(normalized), settings, steps, setup.configure(settings), clock))


def _call_other() -> float:
    return _other[0]()


def measure(entered: dict[str, Seconds], rounds: int) -> dict[str, Doubles]:
    """Name -> seconds [rounds]; an untimed round warms up."""
    rounds_of = {name: np.array([seconds()] * rounds) for name, seconds in entered.items()}
    for turn in range(rounds):
        for place in range(len(entered)):
            name = list(entered)[(turn + place) % len(entered)]
            rounds_of[name][turn] = entered[name]()
    return rounds_of


def flops(model: WorldModel, batch: Tensors) -> int:
    """Of forward and backward, matrix products alone: two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        total_loss(model, batch, PREDICTION_ALONE)[0].backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def evaluations(steps: int) -> int:
    """How often a training of so many steps evaluates: before it, on its way, and to choose what is kept."""
    return 1 + math.ceil(steps / max(1, steps // EVALUATIONS)) + len(DAMPINGS)


def share_in_checkpoints(step: Doubles, checkpoint: Doubles) -> Doubles:
    """Of a training's time: one is written every EVERY.steps or EVERY.seconds, and no more often than SHARE lets it."""
    between = np.maximum(np.minimum(EVERY.steps * step, EVERY.seconds), checkpoint / SHARE)
    return np.asarray(checkpoint / (between + checkpoint))


def ratios(seconds: dict[str, Doubles], counted: dict[int, int], settings: params.Train) -> list[Ratio]:
    usual = settings.batch_size
    whole = seconds["steps"] + seconds["evaluation"] * evaluations(settings.steps) / settings.steps
    peak = 2 * SQUARE**3 / seconds["product"]
    of = {settings.numerics: seconds["steps"], OTHER[settings.numerics]: seconds["other"]}
    flops_text = f"FLOP/s of a step at batch {usual}, as a share of a square product's"
    text = f"seconds of {planning.PLANS} plans of so many frames, times those of their products alone"
    bare, unfused, saved = seconds["bare"], seconds["unfused"], share_in_checkpoints(whole, seconds["checkpoint"])
    return [
        Ratio("whole/bare", "speed of a whole training, as a share of the bare loop's", ">= 0.90", bare / whole),
        Ratio("steps/bare", "the same without its evaluations", "", bare / seconds["steps"]),
        Ratio("whole/unfused", "times as fast as without fused kernels", ">= 1.50", unfused / whole),
        Ratio(f"flops/{usual}", flops_text, "", counted[usual] / bare / peak),
        Ratio(f"flops/{LARGE}", f"the same at batch {LARGE}", ">= 0.35", counted[LARGE] / seconds["large"] / peak),
        Ratio("checkpoints", "share of the time", "<= 0.02", saved),
        Ratio("portable/fast", "seconds a step, times those of fast", "<= 1.30", of["portable"] / of["fast"]),
        *(
            Ratio(f"plans/{frames}", text, "<= 1.60", seconds[f"plans/{frames}"] / seconds[f"products/{frames}"])
            for frames in planning.FRAMES
        ),
        Ratio("call", "milliseconds of encode and predict, one window", "<= 0.35", 1e3 * seconds["call"]),
        Ratio("decision", "milliseconds of a planner's decision", "<= 25", 1e3 * seconds["decision"]),
        Ratio(
            "environments",
            f"thousand frames a second of {planning.ENVIRONMENTS} environments in the model",
            ">= 20",
            planning.ENVIRONMENTS / 1e3 / seconds["environments"],
        ),
    ]


def bench(
    normalized: Path, settings: params.Train, rounds: int, steps: int, folder: Path, clock: str
) -> tuple[dict[str, Doubles], list[Ratio]]:
    """Seconds of each contestant, and the ratios. Raises ValueError where data or params are no good."""
    if settings.encoder != "gru" or settings.kl_weight or settings.contrastive_weight:
        raise ValueError(
            "the network without fused kernels has a GRU encoder and no loss on the context: "
            "measure with train.encoder: gru, train.kl_weight: 0 and train.contrastive_weight: 0"
        )
    device, data = setup.configure(settings), read_packed(normalized)
    entered = contestants(data, settings, steps, device, folder, clock)
    with other_numerics(normalized, settings, steps, clock) as (other, _):
        seconds = measure(entered | {"other": other}, rounds)
    model = initial_model(data.packed, settings, device)
    sizes = (settings.batch_size, LARGE)
    counted = {size: flops(model, batch_of(data, settings, size, device)) for size in sizes}
    return seconds, ratios(seconds, counted, settings)


def table(settings: params.Train, seconds: dict[str, Doubles], lines: list[Ratio], about: str) -> str:
    medians = {name: float(np.median(each)) for name, each in seconds.items()}
    sizes = {"steps": settings.batch_size, "bare": settings.batch_size, "unfused": settings.batch_size}
    sizes |= {"other": settings.batch_size, "large": LARGE}
    sizes |= {f"plans/{frames}": planning.PLANS for frames in planning.FRAMES}
    return "\n".join(
        [
            about,
            f"\n{'':15}{'windows/s':>10}{'ms a step':>10}",
            *(f"{name:15}{size / medians[name]:10.0f}{1e3 * medians[name]:10.2f}" for name, size in sizes.items()),
            f"product of two {SQUARE} x {SQUARE} matrices: {2e-9 * SQUARE**3 / medians['product']:.1f} GFLOP/s; "
            f"evaluation: {1e3 * medians['evaluation']:.0f} ms; checkpoint: {1e3 * medians['checkpoint']:.0f} ms",
            f"\n{'ratio':15}{'median':>8}{'quartiles':>16}{'to reach':>10}",
            *map(str, lines),
        ]
    )


@click.command()
@click.option("--normalized", type=PATH, default=Path("data/worldmodel/normalized"), help="Folder of packed arrays.")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Of all contestants.")
@click.option("--steps", type=click.IntRange(1), default=50, show_default=True, help="Optimizer steps in a round.")
@click.option("--json", "json_file", type=PATH, help="File for all that was measured.")
@click.option("--busy", is_flag=True, help="The machine has other work: count seconds of processor.")
@params_option
def command(normalized: Path, rounds: int, steps: int, json_file: Path | None, busy: bool, params_file: Path) -> None:
    """Time training beside a bare loop, a network without fused kernels, a matrix product and other numerics; plans
    beside their products.
    """
    settings, clock = params.read(params_file).train, "processor" if busy else "wall"
    disk = Path(".checkpoints")  # where those of trainings lie
    disk.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        seconds, lines = bench(normalized, settings, rounds, steps, Path(folder), clock)
    cuda = settings.device == "cuda"
    processor = torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability()
    how = f"{settings.threads} threads, {settings.numerics} numerics, batch {settings.batch_size}"
    about = f"{processor}, {how}; medians of {rounds} rounds of {steps} steps by the {clock} clock"
    print(table(settings, seconds, lines, about))
    if json_file:
        body: dict[str, Any] = {"about": about, "torch": torch.__version__, "settings": asdict(settings)}
        body["seconds"] = {name: each.tolist() for name, each in seconds.items()}
        body["ratios"] = {ratio.name: ratio.rounds.tolist() for ratio in lines}
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(command)
