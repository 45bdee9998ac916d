"""Memory that a model takes, by its sizes; tests/test_footprint.py holds the estimates against what the system counts.

Dimension key: B batch, H history, K horizon, F features, A actions, Z latent, D hidden, E hidden units of the encoder.
"""

from dataclasses import replace

import torch

from worldmodel.core.memory import Ceiling, Need, require
from worldmodel.core.params import Train, Validate
from worldmodel.model.objective import shard_count
from worldmodel.model.selection import EVALUATION_BATCH
from worldmodel.model.shape import Shape
from worldmodel.model.world_model import WorldModel

FLOAT = 4  # bytes
COPIES = 8  # of the parameters: their gradients, two moments of the optimizer, the best ones, what a checkpoint writes
SUMS = 4  # of the gradients: a shard's, the sum of several, and both as they are sent and received
CALL = 32  # bytes, of the time that one took


def require_for_training(shape: Shape, settings: Train, held_out: int, device: torch.device) -> None:
    """Raises ValueError where memory lacks what batches, or the held-out windows, will take."""
    sizes = f"train.horizon {settings.horizon}, train.hidden_dim {settings.hidden_dim}, train.z_dim {settings.z_dim}"
    history = f"train.history {settings.history}"
    shards = shard_count(settings)
    batch = training(shape, -(-settings.batch_size // shards), settings.contrastive_weight > 0)
    if shards > 1:
        batch += FLOAT * (SUMS * parameters(shape) + 2 * settings.batch_size * _read(shape))
    held = predicting(shape, min(held_out, EVALUATION_BATCH))
    keys = f"train.batch_size {settings.batch_size}, {sizes}, {history}" if batch >= held else sizes
    require("train", [Need(max(batch, held), keys)], on(device))


def require_for_validation(shape: Shape, settings: Validate, held_out: int) -> None:
    """Raises ValueError as above."""
    asked = replace(shape, horizon=settings.horizon)
    needs = [
        Need(CALL * settings.latency_calls, f"validate.latency_calls {settings.latency_calls}"),
        Need(
            predicting(asked, min(held_out, EVALUATION_BATCH)),
            f"validate.horizon {settings.horizon}, train.hidden_dim {shape.hidden_dim}, train.z_dim {shape.z_dim}",
        ),
    ]
    require("validate", needs)


def on(device: torch.device) -> list[Ceiling] | None:
    """What limits a model there, None where this machine does."""
    if device.type != "cuda":
        return None
    return [Ceiling(torch.cuda.get_device_properties(device).total_memory, "this GPU has")]


def training(shape: Shape, batch: int, contrastive: bool = False) -> int:
    """Bytes of a process that trains: the parameters and, for the gradient, all that is computed of a batch."""
    history, horizon, features = shape.history, shape.horizon, shape.features
    steps = horizon + (history - 1 if shape.masked else 0)  # those of the history fill in what is missing
    rollout = steps * (10 * shape.hidden_dim + 4 * shape.z_dim + 18 * features)
    window = rollout + _encoded(shape) * (2 if contrastive else 1)
    window += 6 * _read(shape)  # as it is read and handed over
    if contrastive:
        window += 4 * batch
    return FLOAT * (COPIES * parameters(shape) + batch * window)


def predicting(shape: Shape, batch: int) -> int:
    """Bytes of a process that predicts without gradients."""
    frame = 2 * shape.hidden_dim + 3 * shape.z_dim + 6 * (shape.features + shape.actions)
    return FLOAT * (2 * parameters(shape) + batch * shape.horizon * frame)


def parameters(shape: Shape) -> int:
    """How many numbers the weights are; none of them is made."""
    with torch.device("meta"):
        return sum(each.numel() for each in WorldModel(shape).parameters())


def _read(shape: Shape) -> int:
    """Numbers that are read of one window."""
    return (shape.history + shape.horizon) * (shape.features * (2 if shape.masked else 1) + shape.actions)


def _encoded(shape: Shape) -> int:
    """Numbers that the encoder computes of one window."""
    history, hidden = shape.history, shape.encoder_dim
    if shape.encoder == "mlp":
        return 2 * history * (shape.features * (2 if shape.masked else 1) + shape.actions) + 6 * hidden
    if shape.encoder == "gru":
        return 11 * history * hidden
    heads = max(1, hidden // 64)
    return 28 * history * hidden + 6 * heads * history**2
