"""The teacher's members: world models that differ in seed, in order of windows and in the episodes left out of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Never

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.checkpoints.checkpoint import Checkpoints, State, listening
from worldmodel.core.params import Teacher as TeacherParams
from worldmodel.core.typing import Ints
from worldmodel.model.initialization import new_model
from worldmodel.model.optimization import learning_rate, new_optimizer, should_evaluate, train_step
from worldmodel.model.selection import BestWeights, choose_damping, mean_error, subsample
from worldmodel.model.shape import Shape
from worldmodel.model.snapshot import named, part, restore, snapshot
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

SELECTIONS = 10  # how often a member is compared on the episodes that it does not train on


@dataclass(frozen=True)
class Member:
    model: WorldModel
    known: float  # error on windows that it was trained on
    unseen: float  # error on those left out, infinite where there are none


@dataclass(frozen=True)
class Fitting:
    """What is the same for all members."""

    packed: Packed
    shape: Shape
    params: TeacherParams
    seed: int
    device: torch.device
    kept: Checkpoints | None

    def members(self, folds: Sequence[tuple[Ints, Ints]]) -> list[Member]:
        """One for each (trained on, selected on), in turn. Goes on from the latest of the kept checkpoints."""
        begun = self.kept.latest() if self.kept else None
        ready = self._ready(begun) if begun else []
        steps, taken = self.params.steps, begun.numbers["step"] if begun else 0
        bar: tqdm[Never] = tqdm(
            total=len(folds) * steps, initial=len(ready) * steps + taken, desc="teacher", unit="step", mininterval=1.0
        )
        with listening(self.kept), bar as progress:
            for fold in folds[len(ready) :]:
                ready.append(self._fit(*fold, ready, begun, progress))
                begun = None
        return ready

    def _fit(
        self, trained: Ints, held_out: Ints, ready: list[Member], begun: State | None, progress: "tqdm[Never]"
    ) -> Member:
        number, steps = len(ready), self.params.steps
        draws, weights, silenced = np.random.SeedSequence((self.seed, number)).generate_state(3)
        observed, unseen = self.windows_of(trained), subsample(self.windows_of(held_out))
        model = new_model(self.shape, self.packed, trained, int(weights), self.device, self.params.dropout, unseen)
        optimizer = new_optimizer(model)
        mixture = Mixture(
            observed,
            self.windows_of(trained[:0]),
            self.params.batch_size,
            np.zeros(steps),
            int(draws),
            confidence=False,
        )
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(silenced))  # of dropout
            if begun:
                best = restore(model, optimizer, begun)
                self._set_random(begun.tensors)
            else:
                best = BestWeights.at(model, unseen, 0, self.device)
            for t in range(begun.numbers["step"] if begun else 0, steps):
                batch = to_device(mixture.batch(t), self.device)
                train_step(model, optimizer, batch, learning_rate(t, steps, self.params.lr))
                if should_evaluate(t, steps, SELECTIONS):
                    best = best.or_better(BestWeights.at(model, unseen, t + 1, self.device))
                if self.kept and self.kept.due(number * steps + t + 1):
                    self.kept.save(number * steps + t + 1, self._state(ready, t + 1, model, optimizer, best))
                progress.update()
        model.load_state_dict(best.weights)
        missed = choose_damping(model, unseen, self.device)
        known = mean_error(model, subsample(observed), self.device)
        return Member(model.eval(), known, missed)

    def windows_of(self, episodes: Ints) -> Windows:
        return windows(self.packed, episodes, self.shape.history, self.shape.horizon)

    def _state(
        self, ready: Sequence[Member], step: int, model: WorldModel, optimizer: Optimizer, best: BestWeights
    ) -> State:
        numbers, tensors = snapshot(model, optimizer, best)
        for number, member in enumerate(ready):
            tensors |= named(f"ready.{number}", member.model.state_dict())
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random on the device"] = torch.cuda.get_rng_state(self.device)
        errors = [(member.known, member.unseen) for member in ready]
        return State(numbers | {"step": step, "errors": errors}, tensors)

    def _ready(self, begun: State) -> list[Member]:
        found = []
        for number, errors in enumerate(begun.numbers["errors"]):
            with torch.random.fork_rng(devices=[]):
                model = WorldModel(self.shape, self.params.dropout)
            model.load_state_dict(part(f"ready.{number}", begun.tensors))
            found.append(Member(model.to(self.device).eval(), *errors))
        return found

    def _set_random(self, tensors: dict[str, Tensor]) -> None:
        torch.set_rng_state(tensors["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random on the device"], self.device)
