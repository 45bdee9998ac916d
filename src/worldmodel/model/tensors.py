"""A batch of windows as tensors on the device that computes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.arrays.windows import Batch
from worldmodel.core.typing import Floats


class Tensors(NamedTuple):
    """The fields of a Batch, with its shapes."""

    history: Tensor
    past_actions: Tensor
    planned_actions: Tensor
    features: Tensor
    rewards: Tensor | None
    weight: Tensor
    observed: Tensor
    known: Tensor | None = None
    present: Tensor | None = None
    ended: Tensor | None = None

    @property
    def past(self) -> tuple[Tensor, ...]:
        """What a model encodes."""
        given = (self.history, self.past_actions)
        return given if self.known is None else (*given, self.known)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a model predicts from."""
        given = (self.history, self.past_actions, self.planned_actions)
        return given if self.known is None else (*given, self.known)


def to_device(batch: Batch, device: torch.device) -> Tensors:
    columns = {name: getattr(batch, name) for name in Tensors._fields}
    moved: dict[str, Any] = {name: None if array is None else _moved(array, device) for name, array in columns.items()}
    return Tensors(**moved)


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first that holds NaN or infinity."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def _moved(array: Floats, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
