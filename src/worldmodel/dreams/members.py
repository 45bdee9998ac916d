"""The teacher's models: members, which differ in seed, in order of windows and in the episodes left out of each, and
beside each member a network of one-step changes.

They are independent of each other, and are fitted side by side on the cores that are there. Each has checkpoints of its
own; one that is finished keeps its last one until all are.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from worldmodel.arrays.mixing import Mixture, no_dreams
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.checkpoints.checkpoint import Checkpoints, Stopped, in_part
from worldmodel.checkpoints.content import State
from worldmodel.core.params import Teacher as TeacherParams
from worldmodel.core.typing import Ints
from worldmodel.dreams.transition import RATE, TRANSITIONS, TransitionNetwork, new_network
from worldmodel.model.initialization import new_model
from worldmodel.model.optimization import learning_rate, new_optimizer, optimizer_step, should_evaluate, train_step
from worldmodel.model.selection import BestWeights, choose_damping, mean_error, subsample
from worldmodel.model.shape import Shape
from worldmodel.model.snapshot import restore, snapshot
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

SELECTIONS = 10  # how often a model is compared on the episodes that it does not train on


@dataclass(frozen=True)
class Fold:
    """What one member, and the network beside it, train on and are selected on: numbers of episodes."""

    number: int
    trained: Ints
    held_out: Ints  # none where there are fewer episodes than members


@dataclass(frozen=True)
class Member:
    model: WorldModel
    train_error: float  # on windows that it was trained on
    holdout_error: float  # on those left out, infinite where there are none


@dataclass(frozen=True)
class EnsembleTrainer:
    """What is the same for all models."""

    packed: Packed
    shape: Shape
    params: TeacherParams
    seed: int
    device: torch.device
    checkpoints: Checkpoints | None

    def fit_member(self, fold: Fold) -> Member | None:
        """None where a signal asked to stop meanwhile; the checkpoint then has what was done."""
        draws, weights, dropout_seed = np.random.SeedSequence((self.seed, fold.number)).generate_state(3)
        observed, unseen = self.windows_of(fold.trained), subsample(self.windows_of(fold.held_out))
        model = new_model(self.shape, self.packed, fold.trained, int(weights), self.device, self.params.dropout, unseen)
        mixture = Mixture(
            observed,
            self.windows_of(fold.trained[:0]),
            self.params.batch_size,
            no_dreams(self.params.steps),
            int(draws),
            confidence=False,
            cold=0.0,  # a dream begins behind a whole history
        )

        def step(t: int, optimizer: Optimizer) -> None:
            batch = to_device(mixture.batch(t), self.device)
            train_step(model, optimizer, batch, learning_rate(t, self.params.steps, self.params.lr))

        if not self._fit(f"member-{fold.number}", model, step, self.params.steps, unseen, int(dropout_seed)):
            return None
        holdout_error = choose_damping(model, unseen, self.device)
        train_error = mean_error(model, subsample(observed), self.device)
        return Member(model.eval(), train_error, holdout_error)

    def fit_network(self, fold: Fold, member: WorldModel) -> TransitionNetwork | None:
        """As wide as the member, and damped as it is; None as above."""
        steps = self.params.transition_steps
        seeds = np.random.SeedSequence((self.seed, fold.number, 1))  # 1: other numbers than the member's
        draws, weights = seeds.generate_state(2)
        network = new_network(self.packed, fold.trained, member, int(weights)).to(self.device)
        every, none = (windows(self.packed, episodes, 1, 1) for episodes in (fold.trained, fold.trained[:0]))
        mixture = Mixture(every, none, TRANSITIONS, no_dreams(steps), int(draws), confidence=False)

        def step(t: int, optimizer: Optimizer) -> None:
            batch = to_device(mixture.batch(t), self.device)
            optimizer_step(network, optimizer, network.loss(batch), learning_rate(t, steps, RATE))

        unseen = subsample(self.windows_of(fold.held_out))
        finished = self._fit(f"network-{fold.number}", network, step, steps, unseen, int(draws))
        return network.eval() if finished else None

    def windows_of(self, episodes: Ints) -> Windows:
        return windows(self.packed, episodes, self.shape.history, self.shape.horizon)

    def _fit(
        self,
        name: str,
        model: nn.Module,
        step: Callable[[int, Optimizer], None],
        steps: int,
        unseen: Windows,
        random_seed: int,
    ) -> bool:
        """Take all steps and leave the weights that do best on unseen windows; False where a signal asked to stop.

        Goes on from the latest checkpoint, to the same bits. Leaves the random numbers of others alone.
        """
        optimizer = new_optimizer(model)
        devices = [self.device] if self.device.type == "cuda" else []
        with in_part(self.checkpoints.part(name) if self.checkpoints else None) as checkpoints:
            if checkpoints and checkpoints.stopping:
                return False
            with torch.random.fork_rng(devices=devices), suppress(Stopped):
                best = self._train(model, optimizer, step, steps, unseen, random_seed, checkpoints)
                model.load_state_dict(best.weights)
                return True
        return False

    def _train(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        step: Callable[[int, Optimizer], None],
        steps: int,
        unseen: Windows,
        random_seed: int,
        checkpoints: Checkpoints | None,
    ) -> BestWeights:
        """Raises Stopped where a signal asked to."""
        begun = checkpoints.latest() if checkpoints else None
        if begun:
            best = restore(model, optimizer, begun)
            self._set_random(begun.tensors)
        else:
            torch.manual_seed(random_seed)
            best = BestWeights.at(model, unseen, 0, self.device)
        for t in range(begun.numbers["step"] if begun else 0, steps):
            step(t, optimizer)
            if should_evaluate(t, steps, SELECTIONS):
                best = best.or_better(BestWeights.at(model, unseen, t + 1, self.device))
            if checkpoints and (checkpoints.due(t + 1) or t + 1 == steps):
                checkpoints.save(t + 1, self._state(t + 1, model, optimizer, best))
        return best

    def _state(self, step: int, model: nn.Module, optimizer: Optimizer, best: BestWeights) -> State:
        numbers, tensors = snapshot(model, optimizer, best)
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random on the device"] = torch.cuda.get_rng_state(self.device)
        return State(numbers | {"step": step}, tensors)

    def _set_random(self, tensors: dict[str, Tensor]) -> None:
        torch.set_rng_state(tensors["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random on the device"], self.device)
