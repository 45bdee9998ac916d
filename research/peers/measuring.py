"""One model on one set of logs: trained where it learns, and its errors on val and test episodes."""

from collections.abc import Iterable
from typing import Any

import torch

from research.peers.admpo import Admpo
from research.peers.fitting import Predict, Trained, errors, train_peer
from research.peers.material import Material
from research.peers.ours import train_ours
from research.peers.peer import Peer
from research.peers.pets import Pets
from research.peers.rssm import Rssm
from research.peers.rwm import Rwm
from research.peers.tdmpc2 import TdMpc2
from worldmodel.arrays.windows import Packed, windows
from worldmodel.core.params import Params
from worldmodel.model.baselines import linear_baseline, persistence
from worldmodel.model.tensors import Tensors

HOLD, RIDGE, OURS = "hold-last", "ridge", "ours"
FLOORS = (HOLD, RIDGE)
PEERS: dict[str, type[Peer]] = {"pets": Pets, "rwm": Rwm, "admpo": Admpo, "rssm": Rssm, "tdmpc2": TdMpc2}

Row = dict[str, Any]


def in_order(models: Iterable[str]) -> list[str]:
    """The floors, then ours, whose seconds are the peers', then the peers as given."""
    asked = list(models)
    return [*FLOORS, *(name for name in asked if name == OURS), *(name for name in asked if name in PEERS)]


def measure(name: str, material: Material, settings: Params, seconds: float | None, seed: int) -> Row:
    """Errors, and what was spent on them; `seconds` are a peer's, and nobody else's."""
    packed, train = material.packed(), settings.train
    trained = _trained(name, material, packed, settings, seconds, seed)
    held_out = {split: windows(packed, packed.where(split), train.history, train.horizon) for split in ("val", "test")}
    found = {split: errors(trained.predict, each) for split, each in held_out.items()}
    return {
        "model": name,
        **found,
        "seconds": trained.seconds,
        "updates": trained.updates,
        "selected": trained.selected,
    }


def _trained(
    name: str, material: Material, packed: Packed, settings: Params, seconds: float | None, seed: int
) -> Trained:
    if name in FLOORS:
        return Trained(_floor(name, packed), updates=0, seconds=0.0, selected=0.0)
    if name == OURS:
        return train_ours(material, settings, seed)
    assert seconds is not None
    return train_peer(PEERS[name], packed, settings.train, seconds, seed)


def _floor(name: str, packed: Packed) -> Predict:
    ridge = linear_baseline(packed)

    def hold(batch: Tensors) -> torch.Tensor:
        return torch.from_numpy(persistence(batch.history[:, -1].numpy(), batch.features.shape[1]))

    def linear(batch: Tensors) -> torch.Tensor:
        return torch.from_numpy(ridge.rollout(batch.history[:, -1].numpy(), batch.planned_actions.numpy()))

    return hold if name == HOLD else linear
