"""The latent space: z of sampled windows on the two principal directions of observed ones.

Dimension key: W windows, Z latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodel.arrays.windows import Windows, windows
from worldmodel.core.typing import Doubles
from worldmodel.evaluation.scoring import chunks, raw_inputs
from worldmodel.report.scored import Scored

SAMPLE, SEED = 2000, 0  # windows of a kind


@dataclass(frozen=True)
class Latents:
    held_out: Doubles  # [W, 2]
    agents: Sequence[str]  # [W], of held_out
    observed: Doubles  # [W, 2], train
    dreamed: Doubles  # [W, 2], train
    explained: tuple[float, float]  # share of the variance of z along each direction


def project(scored: Scored) -> Latents:
    """The directions are those of observed train windows: dreams do not turn the picture."""
    packed, history, horizon = scored.packed, scored.held_out.history, scored.held_out.horizon
    train = [windows(packed, packed.where("train", source), history, horizon) for source in ("observed", "dream")]
    sampled = [_sampled(each) for each in (scored.held_out, *train)]
    held_out, observed, dreamed = (_encoded(scored, each) for each in sampled)
    reference = observed if len(observed) > 1 else held_out
    center = reference.mean(axis=0)
    directions, explained = _principal(reference - center)
    return Latents(
        held_out=(held_out - center) @ directions,
        agents=[packed.labels.agents[episode] for episode in sampled[0].episode],
        observed=(observed - center) @ directions,
        dreamed=(dreamed - center) @ directions,
        explained=explained,
    )


def _sampled(every: Windows) -> Windows:
    return every.at(np.sort(np.random.default_rng(SEED).permutation(len(every))[:SAMPLE]))


def _encoded(scored: Scored, sampled: Windows) -> Doubles:
    """[W, Z]"""
    model, parts = scored.predictors.model, [np.empty((0, scored.predictors.model.z_dim))]
    for batch in chunks(sampled):
        inputs = raw_inputs(batch, scored.predictors.scaler)
        parts.append(model.encode(inputs.history, **inputs.past).astype(np.float64))
    return np.concatenate(parts)


def _principal(centered: Doubles) -> tuple[Doubles, tuple[float, float]]:
    """Two directions [Z, 2], each with its largest entry above 0, and the share of the variance along each."""
    variances, directions = np.linalg.eigh(centered.T @ centered)
    leading = directions[:, ::-1][:, :2]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(2)])
    total = max(float(variances.sum()), np.finfo(float).tiny)
    return leading * signs, (float(variances[-1]) / total, float(variances[-2]) / total)
