"""Behaviour cloning: what the agents of the logs would do at a frame, learned from z by a plain network.

Dimension key: N frames, H history, Z latent, A actions.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from worldmodel.client import WorldModel
from worldmodel.core.typing import Floats
from worldmodel.episodes.schema import ActionSpace, Episode

HIDDEN, STEPS, BATCH, RATE = 256, 3000, 256, 1e-3
CHECKED = 100  # steps between two looks at the held-out episodes: the network is kept as it was best for them
CHUNK = 1024  # histories at once
LEAST = 1e-6  # standard deviation


@dataclass(frozen=True)
class Cloned:
    """Weights and bias of each layer, rectified in between."""

    model: WorldModel
    layers: Sequence[tuple[Floats, Floats]]

    def __call__(self, z: Floats) -> Floats:
        """z [Z] -> the action there [A], one-hot where actions are discrete."""
        found = z
        for number, (weights, bias) in enumerate(self.layers):
            found = (np.maximum(found, 0) if number else found) @ weights + bias
        if self.model.discrete:
            hot: Floats = np.eye(self.model.action_count, dtype=np.float32)[found.argmax()]
            return hot
        return np.clip(found, *self.model.action_range).astype(np.float32) if self.model.action_range else found


def clone(model: WorldModel, train: Sequence[Episode], held_out: Sequence[Episode], seed: int) -> Cloned:
    """Fitted by squared error, or by cross entropy where actions are discrete: the same bits for the same seed."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    z, actions = pairs(model, train)
    of_z, of_actions = _scale(z), (0.0, 1.0) if model.discrete else _scale(actions)

    def standardized(z: Floats, actions: Floats) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, outputs = ((each - middle) / std for each, (middle, std) in ((z, of_z), (actions, of_actions)))
        return torch.from_numpy(inputs), torch.from_numpy(outputs)

    seen, done = standardized(z, actions)
    other = standardized(*pairs(model, held_out or train))
    loss = nn.functional.cross_entropy if model.discrete else nn.functional.mse_loss
    linear = [nn.Linear(*sizes) for sizes in pairwise((model.z_dim, HIDDEN, HIDDEN, model.action_count))]
    net = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])
    optimizer, best, kept = torch.optim.Adam(net.parameters(), RATE), np.inf, linear
    for step in range(1, STEPS + 1):
        drawn = torch.randint(len(seen), (BATCH,))
        optimizer.zero_grad()
        torch.autograd.backward(loss(net(seen[drawn]), done[drawn]))
        optimizer.step()
        if step % CHECKED == 0:
            with torch.no_grad():
                error = float(loss(net(other[0]), other[1]))
            if error < best:
                best, kept = error, copy.deepcopy(linear)
    layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in kept]
    return Cloned(model, _raw(layers, of_z, of_actions))


def pairs(model: WorldModel, episodes: Sequence[Episode]) -> tuple[Floats, Floats]:
    """z of every frame [N, Z], from as many frames before it as there are, and what was done there [N, A]."""
    space = ActionSpace("discrete" if model.discrete else "continuous", model.action_count)
    found: list[tuple[Floats, Floats]] = []
    for episode in episodes:
        actions = space.encode(episode.actions)
        assert actions is not None
        for known in range(1, min(model.history, episode.length + 1)):
            past = actions[None, : known - 1] if known > 1 else None
            found.append((model.encode(episode.features[None, :known], past), actions[known - 1 : known]))
        ends = np.arange(model.history, episode.length + 1)
        for some in np.array_split(ends, max(1, len(ends) // CHUNK)):
            if len(some):
                frames = np.stack([episode.features[end - model.history : end] for end in some])
                past = np.stack([actions[end - model.history : end - 1] for end in some]) if model.history > 1 else None
                found.append((model.encode(frames, past), actions[some - 1]))
    z, done = zip(*found, strict=True)
    return np.concatenate(z), np.concatenate(done)


def _scale(values: Floats) -> tuple[Floats, Floats]:
    return values.mean(axis=0), np.maximum(values.std(axis=0), np.float32(LEAST))


def _raw(layers: Sequence[tuple[Floats, Floats]], of_z: Any, of_actions: Any) -> list[tuple[Floats, Floats]]:
    """The layers for z as it is, and actions in their own units."""
    (first, bias), *between, (last, shift) = layers
    first = first / of_z[1][:, None]
    return [(first, bias - of_z[0] @ first), *between, (last * of_actions[1], shift * of_actions[1] + of_actions[0])]
