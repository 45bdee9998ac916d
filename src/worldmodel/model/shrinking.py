"""What training added, taken back where held-out windows say so: each coordinate of the state by itself.

A coordinate's velocity is linear + network. Its rows in both go part of the way back to the linear start, in which the
network says nothing. So a trained model does no worse than the floors that it started from, coordinate by coordinate.
Dimension key: W windows, K horizon, S state, N blocks of windows.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from worldmodel.arrays.windows import Windows
from worldmodel.core.typing import Doubles, Ints
from worldmodel.model.selection import WORSE, blocks, coordinate_errors
from worldmodel.model.world_model import WorldModel

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of what training added
CAUTION = 4  # standard errors, with one block, that a share has to be better by beside the one with very many


def shrink(model: WorldModel, start: Mapping[str, Tensor], held_out: Windows, device: torch.device) -> Doubles:
    """Leave each coordinate the share [S] of what training added to `start`, a state_dict, that errs least.

    All goes where the start errs less. Without windows all stays.
    """
    count = model.shape.state_dim
    if not len(held_out):
        return np.ones(count)
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    block = blocks(held_out)
    errors = []
    for share in SHARES:
        _apply(model, trained, start, np.full(count, share))
        errors.append(coordinate_errors(model, held_out, block, device))
    shares = np.array(SHARES)[_better(np.stack(errors))]
    _apply(model, trained, start, shares)
    found = coordinate_errors(model, held_out, block, device).mean()
    if found > WORSE * errors[0].mean():  # coordinates depend on each other
        shares, found = np.ones(count), errors[0].mean()
    if found > errors[-1].mean():
        shares = np.zeros(count)
    _apply(model, trained, start, shares)
    return shares


def _apply(model: WorldModel, trained: Mapping[str, Tensor], start: Mapping[str, Tensor], shares: Doubles) -> None:
    if not shares.any():
        model.load_state_dict(dict(start))
        return
    weights = dict(trained)
    for part in ("linear", "change"):
        for kind in ("weight", "bias"):
            name = f"{part}.{kind}"
            mine, before = trained[name], start[name]
            share = torch.ones(len(mine), dtype=mine.dtype)
            share[: len(shares)] = torch.from_numpy(shares)
            weight = share.to(mine.device).reshape(-1, *[1] * (mine.dim() - 1))
            weights[name] = torch.lerp(before, mine, weight.expand_as(mine))
    model.load_state_dict(weights)


def _better(errors: Doubles) -> Ints:
    """Of candidates [C, N, S], the number of the best one of each coordinate; the first where none is surely better.

    The fewer blocks, the more standard errors it takes; one block has to show half of the error.
    """
    count, means = errors.shape[1], errors.mean(axis=1)
    gained = errors[0] - errors
    least = (1 + CAUTION / count) * gained.std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else means[:1] / 2
    allowed = np.where(gained.mean(axis=1) > least, means, np.inf)
    allowed[0] = means[0]
    best: Ints = allowed.argmin(axis=0)
    return best
