"""DreamerV3's recurrent state-space model (Hafner et al. 2023, arXiv 2301.04104), without its actor and critic.

A GRU carries a deterministic state; categorical latents are drawn from a posterior that sees the frame, and from a
prior that does not. History is observed, the horizon imagined by the prior.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.peers.peer import Peer, Sizes, actions_of, exists_of, frames_of
from worldmodel.model.losses import weighted_mean
from worldmodel.model.tensors import Tensors

HIDDEN = 256
LATENTS, CLASSES = 16, 16  # 32 x 32, the paper's, makes fewer updates of the same time
UNIMIX = 0.01  # share of the uniform distribution in every categorical one
FREE_NATS = 1.0  # of divergence a frame
DYNAMICS_WEIGHT, REPRESENTATION_WEIGHT = 1.0, 0.1  # of the divergence that trains the prior, and the posterior
IMAGINED = 8  # rollouts by the prior, whose mean is predicted; the most likely classes err a quarter more


class Rssm(Peer):
    lr: ClassVar[float] = 1e-3
    clip_norm: ClassVar[float] = 100.0
    batch_size: ClassVar[int] = 32  # 64 errs more after the same time
    rollouts = IMAGINED

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        latent = LATENTS * CLASSES
        self.embed = nn.Sequential(*layer(sizes.features, HIDDEN), *layer(HIDDEN, HIDDEN))
        self.enter = nn.Sequential(*layer(latent + sizes.actions, HIDDEN))
        self.cell = NormedGru(HIDDEN, HIDDEN)
        self.prior = nn.Sequential(*layer(HIDDEN, HIDDEN), nn.Linear(HIDDEN, latent))
        self.posterior = nn.Sequential(*layer(2 * HIDDEN, HIDDEN), nn.Linear(HIDDEN, latent))
        self.decode = mlp(HIDDEN + latent, sizes.features)
        self.reward = mlp(HIDDEN + latent, 1)

    def step(self, memory: Tensor, latent: Tensor, action: Tensor) -> Tensor:
        """Deterministic state [B, D], latent [B, Z], action [B, A] -> the next deterministic state"""
        stepped: Tensor = self.cell(self.enter(torch.cat([latent, action], dim=-1)), memory)
        return stepped

    def start(self, count: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, HIDDEN), torch.zeros(count, LATENTS * CLASSES)

    def observe(self, frames: Tensor, actions: Tensor, draws: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, F], [B, T - 1, A] -> deterministic states, latents, posterior log-probabilities, [B, T, ...] each.

        No action led to the first frame.
        """
        embedded, led_here = self.embed(frames), F.pad(actions, (0, 0, 1, 0))
        memory, latent = self.start(len(frames))
        memories, latents, logs = [], [], []
        for t in range(frames.shape[1]):
            memory = self.step(memory, latent, led_here[:, t])
            log = log_probabilities(self.posterior(torch.cat([memory, embedded[:, t]], dim=-1)))
            latent = one_hot(log, draws)
            memories.append(memory)
            latents.append(latent)
            logs.append(log)
        return torch.stack(memories, dim=1), torch.stack(latents, dim=1), torch.stack(logs, dim=1)

    def loss(self, batch: Tensors) -> Tensor:
        frames, exists = frames_of(batch), exists_of(batch)
        memory, latent, posterior = self.observe(frames, actions_of(batch), self.draws)
        prior = log_probabilities(self.prior(memory))
        known = torch.cat([memory, latent], dim=-1)
        error = (self.decode(known) - frames).square().sum(-1)
        dynamics = divergence(posterior.detach(), prior).clamp(min=FREE_NATS)
        representation = divergence(posterior, prior.detach()).clamp(min=FREE_NATS)
        total = error + DYNAMICS_WEIGHT * dynamics + REPRESENTATION_WEIGHT * representation
        loss = weighted_mean(total, exists)
        if batch.rewards is not None:  # the reward that led to a frame is read from that frame's state
            reward = self.reward(known[:, -batch.rewards.shape[1] :])[..., 0]
            loss = loss + weighted_mean((reward - batch.rewards).square(), batch.weight)
        return loss

    def predict(self, batch: Tensors) -> Tensor:
        """The mean of rollouts by the prior, whose draws are the same at every call; the history is observed once."""
        draws = torch.Generator().manual_seed(0)
        memories, latents, _ = self.observe(batch.history, batch.past_actions, None)
        memory, latent = (states[:, -1].repeat(self.rollouts, 1) for states in (memories, latents))
        frames = []
        for action in batch.planned_actions.unbind(1):
            memory = self.step(memory, latent, action.repeat(self.rollouts, 1))
            latent = one_hot(log_probabilities(self.prior(memory)), draws)
            decoded = self.decode(torch.cat([memory, latent], dim=-1))
            frames.append(decoded.reshape(self.rollouts, *batch.history[:, -1].shape).mean(dim=0))
        return torch.stack(frames, dim=1)


class NormedGru(nn.Module):
    """A GRU cell with LayerNorm over its gates, and an update gate that starts out keeping the old state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Sequential(nn.Linear(inputs + hidden, 3 * hidden, bias=False), nn.LayerNorm(3 * hidden))

    def forward(self, inputs: Tensor, memory: Tensor) -> Tensor:
        reset, candidate, update = self.gates(torch.cat([inputs, memory], dim=-1)).chunk(3, dim=-1)
        fresh = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(memory, fresh, torch.sigmoid(update - 1))


def log_probabilities(logits: Tensor) -> Tensor:
    """[..., Z] -> [..., LATENTS, CLASSES], mixed with the uniform distribution"""
    probabilities = logits.reshape(*logits.shape[:-1], LATENTS, CLASSES).softmax(-1)
    return ((1 - UNIMIX) * probabilities + UNIMIX / CLASSES).log()


def one_hot(log: Tensor, draws: torch.Generator | None) -> Tensor:
    """A drawn class of each latent, the most likely one without draws: [..., LATENTS, CLASSES] -> [..., Z].

    Gradients go straight through to the probabilities.
    """
    probabilities = log.exp()
    waiting = 1 if draws is None else torch.empty_like(log).exponential_(generator=draws)  # the first clock to ring
    chosen = F.one_hot((probabilities.detach() / waiting).argmax(-1), CLASSES).to(log.dtype)
    return (chosen + probabilities - probabilities.detach()).flatten(-2)


def divergence(left: Tensor, right: Tensor) -> Tensor:
    """KL of independent categoricals, nats: [..., LATENTS, CLASSES] log-probabilities -> [...]"""
    return (left.exp() * (left - right)).sum((-2, -1))


def layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*layer(inputs, HIDDEN), *layer(HIDDEN, HIDDEN), nn.Linear(HIDDEN, outputs))
