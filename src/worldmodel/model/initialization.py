"""The model that training starts from."""

import torch

from worldmodel.arrays.windows import Packed, Windows
from worldmodel.core.typing import Ints
from worldmodel.model.shape import Shape
from worldmodel.model.start_choice import choose_start
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
    """Seeded weights, and a linear start fitted on the given train episodes and judged on held-out windows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WorldModel(shape, dropout)
    model = model.to(device)
    model.init_from_linear(*choose_start(shape, packed, episodes, held_out))
    return model
