"""How fast training is, beside what it could be: windows a second of the pipeline's own loop, and three yardsticks.

    make bench        # or: python studies/bench.py --rounds 5 --steps 20 --json bench.json

All contestants run in every round, in an order that rotates, and a ratio is the median of its rounds' ratios: what else
the machine does hits both sides alike. A whole training is its steps and, of its looks at the val windows, the share
that falls to a step; both are timed in every round. So is a checkpoint, and a step under the other numerics.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import worldmodel.numerics.pinning  # noqa: E402, F401  (before NumPy, which goes by it)

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402

from research.contestants import SQUARE, Clock, Contestant, Seconds, batch_of, contestants, flops, measure
from research.other_numerics import OTHER, other
from worldmodel.arrays.packing import read_packed
from worldmodel.checkpoints.checkpoint import EVERY, SHARE
from worldmodel.core import errors as stage
from worldmodel.core import params
from worldmodel.core.atomic import replacing
from worldmodel.model.selection import DAMPINGS
from worldmodel.numerics import setup
from worldmodel.stages.train import EVALUATIONS, initial_model

SMALL, LARGE = 64, 256  # windows a batch where FLOP/s are measured


@dataclass(frozen=True)
class Ratio:
    """One line of the second table."""

    name: str
    meaning: str
    to_reach: str  # such as ">= 0.9"; empty where there is no bar
    rounds: Seconds  # [rounds], the ratio of each

    def summary(self) -> dict[str, Any]:
        low, median, high = (float(value) for value in np.percentile(self.rounds, [25, 50, 75]))
        return {
            "means": self.meaning,
            "to_reach": self.to_reach,
            "median": median,
            "quartiles": [low, high],
            "rounds": self.rounds.tolist(),
        }


def bench(
    normalized: Path, settings: params.Train, rounds: int, steps: int, folder: Path, clock: Clock = "wall"
) -> dict[str, Any]:
    """Measure everything, with checkpoints in `folder`; returns what --json writes.

    Raises ValueError where the data are not there, or where the params ask for what the plain network does not have.
    """
    if settings.encoder != "gru" or settings.kl_weight or settings.contrastive_weight:
        raise ValueError(
            "the plain network has a GRU encoder and no loss on the context: "
            "measure with train.encoder: gru, train.kl_weight: 0 and train.contrastive_weight: 0"
        )
    device = setup.configure(settings)
    data = read_packed(normalized)
    entered = contestants(data, settings, steps, (SMALL, LARGE), device, folder, clock)
    with other(normalized, settings, steps, clock) as elsewhere:
        seconds = measure(entered | {"other": Contestant(elsewhere.seconds, steps)}, rounds)
    every = looks(settings.steps) + len(DAMPINGS)  # of which one is chosen when training is done
    seconds["whole"] = seconds["pipeline"] + seconds["look"] * every / settings.steps
    model = initial_model(data.packed, settings, device)
    counted = {size: flops(model, batch_of(data, settings, size, device)) for size in (SMALL, LARGE)}
    cuda = device.type == "cuda"
    return {
        "processor": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
        "other_processor": elsewhere.processor,
        "torch": torch.__version__,
        "settings": asdict(settings),
        "clock": clock,
        "rounds": rounds,
        "steps": steps,
        "flop_per_step": {str(size): count for size, count in counted.items()},
        "seconds": {name: found.tolist() for name, found in seconds.items()},
        "ratios": {ratio.name: ratio.summary() for ratio in _ratios(seconds, counted, settings.numerics)},
    }


def looks(steps: int) -> int:
    """How often a training of so many steps looks at the val windows for its curve: before it, and as `fit` does."""
    return 1 + math.ceil(steps / max(1, steps // EVALUATIONS))


def share_in_checkpoints(step: Seconds, checkpoint: Seconds) -> Seconds:
    """Of a training's time: one is written every EVERY.steps or EVERY.seconds, and no more often than SHARE lets it."""
    between = np.maximum(np.minimum(EVERY.steps * step, EVERY.seconds), checkpoint / SHARE)
    return checkpoint / (between + checkpoint)


def _ratios(seconds: dict[str, Seconds], counted: dict[int, int], own: str) -> tuple[Ratio, ...]:
    whole, alone, bare, unfused = (seconds[name] for name in ("whole", "pipeline", "bare", "unfused"))
    peak = 2 * SQUARE**3 / seconds["product"]
    shares = {size: count / seconds[f"batch {size}"] / peak for size, count in counted.items()}
    saved = share_in_checkpoints(whole, seconds["checkpoint"])
    step = {own: alone, OTHER[own]: seconds["other"]}
    return (
        Ratio("whole/bare", "speed of a whole training, as a share of the bare loop's", ">= 0.90", bare / whole),
        Ratio("steps/bare", "the same without its looks at val windows", "", bare / alone),
        Ratio(
            "whole/unfused", "whole training, times as fast as a net without fused kernels", ">= 1.50", unfused / whole
        ),
        Ratio("whole/plain", "the same against a net of PyTorch's modules", "", seconds["plain"] / whole),
        Ratio("flops/64", f"FLOP/s of a step at batch {SMALL}, as a share of a square product's", "", shares[SMALL]),
        Ratio("flops/256", f"the same at batch {LARGE}", ">= 0.35", shares[LARGE]),
        Ratio("checkpoints", "share of a training's time that goes into checkpoints", "<= 0.02", saved),
        Ratio(
            "portable/fast", "seconds a step, times those of fast numerics", "<= 1.30", step["portable"] / step["fast"]
        ),
    )


def table(found: dict[str, Any]) -> str:
    settings, medians = found["settings"], {name: float(np.median(each)) for name, each in found["seconds"].items()}
    usual = settings["batch_size"]
    speeds = (
        ("pipeline, whole training", "whole", usual),
        ("pipeline, steps alone", "pipeline", usual),
        ("bare loop, one resident batch", "bare", usual),
        ("PyTorch's modules, one resident batch", "plain", usual),
        ("no fused kernels, one resident batch", "unfused", usual),
        (f"bare loop at batch {LARGE}", f"batch {LARGE}", LARGE),
        (f"pipeline, steps alone, {OTHER[settings['numerics']]}", "other", usual),
    )
    lines = [
        f"{settings['device']} ({found['processor']}), {settings['threads']} threads, {settings['numerics']} numerics, "
        f"batch {usual}; medians of {found['rounds']} rounds of {found['steps']} steps by the {found['clock']} clock",
        "",
        f"{'':38}{'windows/s':>11}{'ms a step':>11}",
        *(f"{text:38}{size / medians[name]:11.0f}{1e3 * medians[name]:11.2f}" for text, name, size in speeds),
        f"product of two {SQUARE} x {SQUARE} matrices: {2e-9 * SQUARE**3 / medians['product']:.1f} GFLOP/s; "
        f"a look at the val windows: {1e3 * medians['look']:.0f} ms; "
        f"a checkpoint: {1e3 * medians['checkpoint']:.0f} ms",
        "",
        f"{'ratio':14}{'median':>8}{'quartiles':>16}{'to reach':>10}",
        *(_line(name, ratio) for name, ratio in found["ratios"].items()),
    ]
    return "\n".join(lines)


def _line(name: str, ratio: dict[str, Any]) -> str:
    low, high = ratio["quartiles"]
    return f"{name:14}{ratio['median']:8.4f}{low:8.4f}{high:8.4f}{ratio['to_reach']:>10}  {ratio['means']}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normalized", type=Path, default=ROOT / "data/worldmodel/normalized", help="packed arrays")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="its train section is measured")
    parser.add_argument("--rounds", type=_positive, default=15, help="of all contestants (15)")
    parser.add_argument("--steps", type=_positive, default=50, help="optimizer steps of a contestant in a round (50)")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--busy", action="store_true", help="the machine has other work: count seconds of processor")
    given = parser.parse_args(arguments)
    settings = params.load(given.params, params.TrainStage).train
    disk = ROOT / ".checkpoints"  # where those of trainings lie
    disk.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        clock = "processor" if given.busy else "wall"
        found = bench(given.normalized, settings, given.rounds, given.steps, Path(folder), clock)
    print(table(found))
    if given.json is not None:
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
