"""How far plans are from what the logs know, fitted to train windows and scaled on held-out ones.

In linear regression the variance of a prediction is that of the noise times 1 + the leverage of its inputs: their
squared Mahalanobis distance from the inputs that it was fitted on. The disagreement of a frame is the model's std times
the sum of the leverages of the states and actions on the way there. Errors beside the std grow with it, on held-out
windows and on plans that no agent of the logs would make (docs/results.md).
"""

import numpy as np
import torch
from torch import Tensor

from worldmodel.arrays.windows import Windows
from worldmodel.core.student_t import half_width
from worldmodel.model.selection import predictions, subsample
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import Prediction, WorldModel

LEAST = 1e-6  # share of the largest variance in any direction, for a direction that nothing varies in
WIDER = 0.01  # share of the held-out readings that intervals may hold beside those within the std's
SCALES = np.geomspace(1e-3, 1e2, 101)


@torch.no_grad()
def fit_disagreement(model: WorldModel, train: Windows, held_out: Windows, device: torch.device) -> None:
    """Set what the model measures leverage by. It is scaled on train windows where none are held out."""
    inputs = torch.cat([_inputs(model, batch) for batch, _ in predictions(model, subsample(train), device)])
    wide = inputs.double().cpu().numpy()
    mean, apart = wide.mean(axis=0), wide - wide.mean(axis=0)
    variance, directions = np.linalg.eigh(apart.T @ apart / len(apart))
    whitening = directions / np.sqrt(np.maximum(variance, LEAST * max(variance[-1], LEAST)))
    model.familiar.copy_(torch.from_numpy(mean))
    per_frame = whitening / np.sqrt(len(mean) * model.shape.horizon)
    model.unfamiliarity.copy_(torch.from_numpy(per_frame))
    scale = _scale(model, held_out if len(held_out) else subsample(train), device)
    model.unfamiliarity.copy_(torch.from_numpy(np.sqrt(scale) * per_frame))


def _inputs(model: WorldModel, batch: Tensors) -> Tensor:
    """States that the model predicts and the actions taken there, of frames that exist: [N, S + A]."""
    z = model.encode(*batch.past)
    after = model.unroll(z, batch.planned_actions).z
    states = torch.cat([z[:, None], after[:, :-1]], dim=1)[..., : model.shape.state_dim]
    return torch.cat([states, batch.planned_actions], dim=-1)[batch.weight > 0]


def _scale(model: WorldModel, windows: Windows, device: torch.device) -> float:
    """The largest that leaves the intervals of std and disagreement together hardly wider than those of the std."""
    reach, held, count = half_width(model.degrees), np.zeros(1 + len(SCALES)), 0
    for batch, prediction in predictions(model, windows, device):
        there = _there(batch)
        off = ((batch.features - prediction.features).square())[there].double().cpu().numpy()
        variance = (2 * prediction.log_std).exp()[there].double().cpu().numpy()
        doubt = _spread(prediction)[there].double().cpu().numpy()
        held += [(off <= reach**2 * (variance + scale**2 * doubt)).sum() for scale in (0.0, *SCALES)]
        count += len(off)
    wider = (held[1:] - held[0]) / max(count, 1)
    return float(SCALES[max(int((wider <= WIDER).sum()) - 1, 0)])


def _there(batch: Tensors) -> Tensor:
    exists = (batch.weight > 0)[..., None].expand_as(batch.features)
    return exists if batch.present is None else exists & (batch.present > 0)


def _spread(prediction: Prediction) -> Tensor:
    """The disagreement squared, of each feature alike, [B, K, F]."""
    return prediction.disagreement.square()[..., None].expand_as(prediction.features)
