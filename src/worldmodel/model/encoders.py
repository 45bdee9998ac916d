"""Encoders: a history of (features, action that led here) -> what the context part of z is read from.

Dimension key: B batch, H history, I inputs a frame (features + actions), D hidden, C context.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """forward: [B, H, I] -> [B, D], which `head` makes the context part of z of, [B, C]."""

    def __init__(self, inputs: int, history: int, hidden: int, context: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden, context)


class GruEncoder(Encoder):
    """The last hidden state of a GRU (Cho et al. 2014, arXiv 1406.1078)."""

    def __init__(self, inputs: int, history: int, hidden: int, context: int) -> None:
        super().__init__(inputs, history, hidden, context)
        self.gru = nn.GRU(inputs, hidden, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        last: Tensor = self.gru(frames)[1]
        return last[0]


class MlpEncoder(Encoder):
    """Two layers over the flattened history."""

    def __init__(self, inputs: int, history: int, hidden: int, context: int) -> None:
        super().__init__(inputs, history, hidden, context)
        self.body = nn.Sequential(
            nn.Linear(history * inputs, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )

    def forward(self, frames: Tensor) -> Tensor:
        summary: Tensor = self.body(frames.flatten(1))
        return summary


class TransformerEncoder(Encoder):
    """Two pre-norm attention blocks with learned positions, read at the last frame (arXiv 1706.03762)."""

    def __init__(self, inputs: int, history: int, hidden: int, context: int) -> None:
        super().__init__(inputs, history, hidden, context)
        self.embed = nn.Linear(inputs, hidden)
        self.position = nn.Parameter(torch.zeros(history, hidden))
        self.blocks = nn.Sequential(AttentionBlock(hidden), AttentionBlock(hidden))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, frames: Tensor) -> Tensor:
        summary: Tensor = self.norm(self.blocks(self.embed(frames) + self.position)[:, -1])
        return summary


class AttentionBlock(nn.Module):
    """[B, H, D] -> [B, H, D]; heads of about 64."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in range(max(1, hidden // 64), 0, -1) if hidden % heads == 0)
        self.norms = nn.ModuleList([nn.LayerNorm(hidden), nn.LayerNorm(hidden)])
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.feed = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, hidden))

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames + self.mix(self._attend(self.norms[0](frames)))
        fed: Tensor = frames + self.feed(self.norms[1](frames))
        return fed

    def _attend(self, frames: Tensor) -> Tensor:
        batch, history, hidden = frames.shape
        split = self.qkv(frames).reshape(batch, history, 3, self.heads, hidden // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, H, D / heads]
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, history, hidden)
