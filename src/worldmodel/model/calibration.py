"""The std that a trained model predicts, scaled until its intervals hold what they should."""

import math

import numpy as np
import torch

from worldmodel.arrays.windows import Windows
from worldmodel.model.selection import predictions
from worldmodel.model.world_model import WorldModel

NORMAL_90 = 1.6448536269514722  # half width of a normal 90 % interval, in std


def calibrate(model: WorldModel, windows: Windows, device: torch.device) -> None:
    """One multiplier of the std for each frame of the horizon: 90 % intervals then hold 90 % of the given windows.

    Without windows, and at frames that none of them reaches, the std stays.
    """
    if not len(windows):
        return
    ratios, there = [], []
    for batch, prediction in predictions(model, windows, device):
        ratios.append(((batch.features - prediction.features).abs() * (-prediction.log_std).exp()).cpu().numpy())
        exists = batch.weight > 0
        there.append((exists if batch.present is None else exists[..., None] & (batch.present > 0)).cpu().numpy())
    ratio, exist = np.concatenate(ratios), np.concatenate(there)
    for step in range(ratio.shape[1]):
        if exist[:, step].any():
            reached = float(np.quantile(ratio[:, step][exist[:, step]], 0.9))
            model.log_std_offset[step] += math.log(max(reached, 1e-3) / NORMAL_90)
