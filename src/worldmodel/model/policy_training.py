"""Training a policy inside the world model: actor and critic in turns, on what the model predicts for the actor.

The actor follows the gradients of returns over a horizon, through the model, with the critic's value at the end; the
critic learns these returns (arXiv 1912.01603). The more the model disagrees, the less its predictions count, and what
comes after an ending is worth nothing. Everything in standardized units, rewards in standard deviations; dimension key
as in world_model.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Packed, windows
from worldmodel.core.params import Train
from worldmodel.core.typing import Ints
from worldmodel.model.policy import VALUE_UNIT, Policy
from worldmodel.model.selection import EVALUATION_BATCH
from worldmodel.model.shape import MEMORY
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

DISCOUNT = 0.98  # of a frame; about 50 frames count
TRACE = 0.95  # lambda of the returns
BATCH = 64  # rollouts
RATE = 1e-3  # peak, linearly down to a tenth
FOLLOW = 0.02  # share of the critic that its target takes over at each step
NOISE = 0.1  # std, before the tanh
CAUTION = 1.0  # what is predicted with a disagreement d is trusted exp(-CAUTION d^2)
FAR, LEAST_TRUST = 10.0, 1e-6  # a disagreement, and what is trusted, beyond which nothing more changes
PESSIMISM = 1.0  # of the rewards' std below their mean: what a frame earns that nothing is known of
GO_ON = 0.5  # share of the rollouts that go on where they end
CLIP_ACTOR, CLIP_CRITIC = 1.0, 10.0  # norms of gradients
STARTS = 20_000  # windows whose z rollouts start from, at most


class Starts(NamedTuple):
    """What rollouts start from."""

    z: Tensor  # [N, Z]
    context: Tensor  # [N, K, C]


class Rollout(NamedTuple):
    z: list[Tensor]  # K + 1 of [B, Z]
    rewards: list[Tensor]  # K of [B]
    trusted: list[Tensor]  # K of [B], of the frame, if the one before was
    lasting: list[Tensor]  # K of [B], probability that the task does not end with the frame


def train_policy(
    model: WorldModel, starts: Starts, rewards: Affine, bounds: tuple[Tensor, Tensor], steps: int, seed: int
) -> Policy:
    """bounds [A] of the actions, standardized. The model stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    shape, device = model.shape, starts.z.device
    unknown = float(rewards.center[0]) / float(rewards.spread[0]) - PESSIMISM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = Policy(shape.z_dim, shape.actions - shape.context, DISCOUNT, unknown).to(device)
    policy.fit_inputs(starts.z)
    policy.low.copy_(bounds[0])
    policy.high.copy_(bounds[1])
    target = copy.deepcopy(policy)
    optimizers = Adam(policy.actor.parameters()), Adam(policy.critic.parameters())
    model.eval().requires_grad_(False)
    rollout: Rollout | None = None
    for t in tqdm(range(steps), desc="policy", unit="step", mininterval=1.0):
        chosen = torch.randint(len(starts.z), (BATCH,), generator=generator)
        begun = Starts(*(each[chosen] for each in starts))
        if rollout and not shape.context:
            chance = torch.rand(BATCH, generator=generator).to(device)
            begun = begun._replace(z=_going_on(rollout, begun.z, chance))
        noise = NOISE * torch.randn((shape.horizon, BATCH, len(policy.low)), generator=generator).to(device)
        rollout = _rollout(model, policy, begun, noise, rewards)
        returns = _returns(rollout, [target.value(z) for z in rollout.z], unknown)
        rate = RATE * max(0.1, 1 - t / steps)
        _step(optimizers[0], policy.actor, -returns[0].mean(), CLIP_ACTOR, rate)
        visited, goals = torch.cat(rollout.z[:-1]).detach(), torch.cat(returns).detach()
        errors = ((policy.value(visited) - goals) / VALUE_UNIT).square()
        _step(optimizers[1], policy.critic, (_alive(rollout) * errors).mean(), CLIP_CRITIC, rate)
        with torch.no_grad():
            for slow, fast in zip(target.critic.parameters(), policy.critic.parameters(), strict=True):
                slow.lerp_(fast, FOLLOW)
    model.requires_grad_(True)
    return policy.eval()


def trained_policy(
    model: WorldModel, packed: Packed, scaler: Scaler, settings: Train, device: torch.device
) -> Policy | None:
    """None where none is asked for, where the logs hold no rewards or no actions, and where an action is no plain
    number: discrete, an angle or a category.
    """
    actions = scaler.actions
    if not settings.policy_steps or scaler.rewards is None or len(actions.center) != actions.width:
        return None
    if actions.low is None or actions.high is None or not actions.width:
        return None
    logged, dreamed = (packed.where("train", source) for source in ("observed", "dream"))
    starts = policy_starts(model, packed, logged if len(logged) else dreamed, device)
    low, high = (torch.from_numpy(actions.transform(end)).to(device) for end in (actions.low, actions.high))
    return train_policy(model, starts, scaler.rewards, (low, high), settings.policy_steps, settings.seed)


@torch.no_grad()
def policy_starts(model: WorldModel, packed: Packed, episodes: Ints, device: torch.device) -> Starts:
    """Evenly from all of the episodes' windows, and from where they begin, with one frame known."""
    shape, found = model.shape, list[tuple[Tensor, Tensor]]()
    for begins in (False, True):
        every = windows(packed, episodes, shape.history, shape.horizon, begins)
        some = every.every(max(1, -(-len(every) // STARTS)))
        for at in range(0, len(some), EVALUATION_BATCH):
            batch = to_device(some.take(np.arange(at, min(at + EVALUATION_BATCH, len(some)))), device)
            found.append((model.encode(*batch.past), batch.planned_actions[..., shape.actions - shape.context :]))
    return Starts(*(torch.cat(column) for column in zip(*found, strict=True)))


def _rollout(model: WorldModel, policy: Policy, starts: Starts, noise: Tensor, rewards: Affine) -> Rollout:
    unit, offset = float(rewards.unit[0]), float(rewards.center[0]) / float(rewards.spread[0])
    z, trust = starts.z, torch.ones_like(starts.z[:, 0])
    found = Rollout([z], [], [], [])
    for frame, drawn in enumerate(noise):
        action = torch.cat([policy(z, drawn), starts.context[:, frame]], dim=-1)
        z, told = model.advance(z, action[:, None])
        assert told.rewards is not None
        found.z.append(z)
        found.rewards.append(told.rewards[:, 0] * unit + offset)
        doubt = told.disagreement[:, 0].clamp(max=FAR)
        before, trust = trust, torch.minimum(trust, (-CAUTION * doubt.square()).exp()).clamp(min=LEAST_TRUST)
        found.trusted.append(trust / before)
        ending = model.ending(told.features)
        found.lasting.append(torch.ones_like(trust) if ending is None else 1 - ending[:, 0].sigmoid())
    return found


def _going_on(rollout: Rollout, others: Tensor, chance: Tensor) -> Tensor:
    """The last z of rollouts [B, Z], as if its history had been seen, as likely as it is trusted and the task has not
    ended; else another one.
    """
    likely = GO_ON * torch.stack([*rollout.trusted, *rollout.lasting]).prod(dim=0)
    seen = F.pad(rollout.z[-1][:, :-MEMORY], (0, MEMORY))
    return torch.where((chance < likely)[:, None], seen, others).detach()


def _returns(rollout: Rollout, values: list[Tensor], unknown: float) -> list[Tensor]:
    """From each of the K frames on, [B] each, with the value after the last (the lambda-return).

    unknown: what a frame earns that is not trusted, and each one after it.
    """
    found, after, ever = list[Tensor](), values[-1], unknown / (1 - DISCOUNT)
    parts = (*rollout[1:], values[1:])
    for reward, trusted, lasting, value in zip(*(reversed(each) for each in parts), strict=True):
        known = reward + DISCOUNT * lasting * ((1 - TRACE) * value + TRACE * after)
        after = trusted * known + (1 - trusted) * ever
        found.append(after)
    return found[::-1]


def _alive(rollout: Rollout) -> Tensor:
    """Probability that the task has not ended before each frame, [K * B]."""
    alive, found = torch.ones_like(rollout.lasting[0]), []
    for lasting in rollout.lasting:
        found.append(alive)
        alive = (alive * lasting).detach()
    return torch.cat(found)


def _step(optimizer: Optimizer, network: nn.Module, loss: Tensor, clip: float, rate: float) -> None:
    """None along a gradient that is not finite, as where a model runs away."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if nn.utils.clip_grad_norm_(network.parameters(), clip).isfinite():
        optimizer.step()
