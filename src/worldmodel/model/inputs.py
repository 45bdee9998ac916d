"""What a training starts from: windows to train on and to select on, and the model."""

import torch

from worldmodel.arrays.mixing import Mixture, RhoSchedule
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.core.params import Train
from worldmodel.model.initialization import new_model
from worldmodel.model.linear_start import roomy
from worldmodel.model.selection import subsample
from worldmodel.model.shape import Shape
from worldmodel.model.world_model import WorldModel


def training_and_val_windows(packed: Packed, settings: Train) -> tuple[Mixture, Windows]:
    """What is trained on, and what is selected on."""
    observed, dreamed = (
        windows(packed, packed.where("train", source), settings.history, settings.horizon)
        for source in ("observed", "dream")
    )
    rho = RhoSchedule(settings.rho_schedule, settings.rho_start, settings.rho, settings.steps)
    weigh = settings.dream_weighting == "confidence"
    return Mixture(observed, dreamed, settings.batch_size, rho, settings.seed, weigh), _held_out(packed, settings)


def _held_out(packed: Packed, settings: Train) -> Windows:
    return windows(packed, packed.where("val", "observed"), settings.history, settings.horizon)


def initial_model(packed: Packed, settings: Train, device: torch.device) -> WorldModel:
    """The model that training starts from: seeded, and as good as the linear model."""
    held_out, shape = subsample(_held_out(packed, settings)), shape_of(packed, settings)
    return new_model(shape, packed, packed.where("train"), settings.seed, device, held_out=held_out)


def shape_of(packed: Packed, settings: Train) -> Shape:
    return Shape(
        features=packed.features.shape[1],
        actions=packed.actions.shape[1],
        rewards=packed.rewards is not None,
        history=settings.history,
        horizon=settings.horizon,
        z_dim=roomy(settings.z_dim, packed.each(packed.features, packed.where("train"))),
        hidden_dim=settings.hidden_dim,
        encoder=settings.encoder,
        context_spread=settings.kl_weight > 0,
        context=packed.context_count,
        masked=packed.missing,
        terminals=packed.ends(packed.where("train")),
    )
