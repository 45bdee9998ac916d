"""The model that training starts from."""

from dataclasses import replace

import torch

from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.core.typing import Ints
from worldmodel.model.linear_start import linear_starts
from worldmodel.model.selection import DAMPINGS, apply_best
from worldmodel.model.shape import Shape
from worldmodel.model.world_model import WorldModel


def new_model(
    shape: Shape,
    packed: Packed,
    episodes: Ints,
    seed: int,
    device: torch.device,
    dropout: float = 0.0,
    held_out: Windows | None = None,
) -> WorldModel:
    """Seeded weights, and a linear start fitted on the train episodes numbered `episodes`.

    Of the linear starts with and without the last change among their inputs, and of the dampings outside of the train
    states, it is the one that does best on held-out windows; without those, the first of each.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WorldModel(shape, dropout)
    model = model.to(device)
    features, actions = packed.each(packed.features, episodes), packed.each(packed.actions, episodes)
    undamped = linear_starts(features, actions, shape.state_dim, (True, False) if shape.velocity_dim else (False,))
    starts = [replace(start, damping=damping) for start in undamped for damping in DAMPINGS]
    if held_out is None:
        held_out = windows(packed, episodes[:0], shape.history, shape.horizon)
    apply_best(starts, model.init_from_linear, model, held_out, device)
    return model
