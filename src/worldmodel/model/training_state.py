"""Where a training stands, beside its model and optimizer: losses, the best weights, and all of it as a State."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from worldmodel.checkpoints.content import State
from worldmodel.model.selection import BestWeights
from worldmodel.model.snapshot import restore, snapshot
from worldmodel.model.tensors import not_finite
from worldmodel.model.world_model import WorldModel


@dataclass
class TrainingState:
    best: BestWeights
    total: Tensor  # [losses], summed since the last evaluation
    since: int = 0  # steps since then
    step: int = 0  # steps taken
    seconds: float = 0.0  # spent on steps alone, by all processes that took them
    losses: list[tuple[int, str, float]] = field(default_factory=list)  # step, series, mean since the evaluation before

    def add(self, losses: Tensor, seconds: float) -> None:
        """One step was taken."""
        self.total, self.since, self.step = self.total + losses, self.since + 1, self.step + 1
        self.seconds += seconds

    def means(self) -> list[float]:
        """Of each loss since the last evaluation."""
        means: list[float] = (self.total / self.since).tolist()
        return means

    def progress(self, names: Sequence[str], batch_size: int) -> str:
        """The mean losses and the speed, for a progress bar."""
        means = [f"{name} {mean:.4f}" for name, mean in zip(names, self.means(), strict=True)]
        return ", ".join([*means, f"{batch_size * self.step / self.seconds:.0f} samples/s"])

    def record_evaluation(self, now: BestWeights, series: Sequence[str]) -> None:
        """Keep the better weights, log the mean losses; an error on val windows is logged where there are any.

        Raises ValueError where a weight is NaN or infinite: no later step makes it a number again.
        """
        if broken := not_finite(now.weights):
            raise ValueError(
                f"the training diverged between steps {self.step - self.since} and {self.step}: {broken} holds NaN or "
                "infinity; lower train.lr, or leave out what lies far beyond all else in the logs and dreams"
            )
        self.best = self.best.or_better(now)
        self.losses += [(self.step, name, mean) for name, mean in zip(series, self.means(), strict=True)]
        self.losses += [(self.step, "val", now.error)] if now.error != math.inf else []
        self.total, self.since = torch.zeros_like(self.total), 0

    def state(self, model: WorldModel, optimizer: Optimizer) -> State:
        numbers, tensors = snapshot(model, optimizer, self.best)
        here = {"step": self.step, "since": self.since, "seconds": self.seconds, "losses": self.losses}
        return State(numbers | here, tensors | {"total": self.total})

    @staticmethod
    def resumed(state: State, model: WorldModel, optimizer: Optimizer, device: torch.device) -> "TrainingState":
        """Fills model and optimizer as well."""
        numbers = state.numbers
        return TrainingState(
            best=restore(model, optimizer, state),
            total=state.tensors["total"].to(device),
            since=numbers["since"],
            step=numbers["step"],
            seconds=numbers["seconds"],
            losses=[(step, name, loss) for step, name, loss in numbers["losses"]],
        )
