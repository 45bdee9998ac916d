"""Scales: raw units <-> standardized units. No other file converts; fitted on observed train episodes alone."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.arrays.moments import Moments, moments
from worldmodel.core.checked import CLOSED, Float, Sha256, checked
from worldmodel.core.integrity import require_file, require_same
from worldmodel.core.typing import Floats

RESOLUTION = 2 * float(np.finfo(np.float32).eps)  # of a float32, relative to its size; smaller differences are rounding
MIN_SPREAD = 1e-6  # standardized units; what spreads less counts as constant

Method = Literal["standard", "minmax"]
REMEDY = "run `dvc repro normalize`"


@dataclass(frozen=True)
class Affine:
    """standardized = (raw - center) / scale, elementwise; arrays [D]."""

    center: Floats
    scale: Floats

    def transform(self, raw: Floats) -> Floats:
        """[..., D] raw units -> [..., D] standardized, float32."""
        return ((raw - self.center) / self.scale).astype(np.float32)

    def inverse(self, standardized: Floats) -> Floats:
        """[..., D] standardized -> [..., D] raw units, float32."""
        return (standardized * self.scale + self.center).astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """The arrays of one episode, raw units."""

    features: Floats  # [T, F]
    actions: Floats  # [T, A], A = 0 without actions
    rewards: Floats | None = None  # [T]
    confidence: Floats | None = None  # [T], dreams only


@dataclass(frozen=True)
class Scaler:
    method: Method
    features: Affine  # [F]
    actions: Affine  # [A]; the identity where actions are one-hot
    rewards: Affine | None  # [1]
    change_std: Floats  # [F] spread of the one-step change, standardized units; 0 where a feature never changes
    fitted_on: str  # sha256 of the arrays

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which features count as constant, [F]: those of scale 1 whose one-step changes are below MIN_SPREAD."""
        still: NDArray[np.bool_] = (self.features.scale == 1) & (self.change_std < MIN_SPREAD)
        return still

    @property
    def sha256(self) -> str:
        """Hash of all that to_json says beside it: unlike `fitted_on`, it differs by method too."""
        return hashlib.sha256(_json(self._body()).encode()).hexdigest()

    def to_json(self) -> str:
        return _json(self._body() | {"sha256": self.sha256})

    def _body(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "features": _columns(self.features),
            "actions": _columns(self.actions),
            "rewards": None if self.rewards is None else _columns(self.rewards),
            "change_std": _numbers(self.change_std),
            "fitted_on": {"sha256": self.fitted_on},
        }

    @staticmethod
    def read(path: Path) -> "Scaler":
        """Raises ValueError where the file is missing, or not what normalize wrote."""
        require_file(path, REMEDY)
        try:
            body = checked(_File, json.loads(path.read_text(encoding="utf-8")))
            scaler = Scaler(
                method=body.method,
                features=_affine(body.features),
                actions=_affine(body.actions),
                rewards=None if body.rewards is None else _affine(body.rewards),
                change_std=np.asarray(body.change_std, np.float32),
                fitted_on=body.fitted_on["sha256"],
            )
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not a normalizer ({error}); {REMEDY}") from None
        require_same(path, scaler.sha256, body.sha256, REMEDY)
        return scaler


@checked_dataclass(frozen=True, config=CLOSED)
class _Columns:
    center: list[Float]
    scale: list[Annotated[Float, Field(ge=1e-45)]]

    def __post_init__(self) -> None:
        if len(self.center) != len(self.scale):
            raise ValueError(f"{len(self.center)} centers and {len(self.scale)} scales")


@checked_dataclass(frozen=True, config=CLOSED)
class _File:
    method: Method
    features: _Columns
    actions: _Columns
    rewards: _Columns | None
    change_std: list[Float]
    fitted_on: dict[Literal["sha256"], Sha256]
    sha256: Sha256


def fit(samples: Iterable[Sample], method: Method, min_std: float, one_hot: bool) -> Scaler:
    """Fit on observed train episodes, which are iterated several times and need not be in memory.

    A feature whose raw standard deviation is below min_std, or below what float32 resolves at its size, counts as
    constant: it is centered, with scale 1 or that resolution if it is larger.
    Raises ValueError without samples.
    """
    assert not isinstance(samples, Iterator), "samples can be iterated only once"
    features = moments(lambda: (sample.features for sample in samples))
    actions = moments(lambda: (sample.actions for sample in samples))
    rewards = moments(lambda: (sample.rewards[:, None] for sample in samples if sample.rewards is not None))
    if features is None or actions is None:
        raise ValueError("no observed train episode to fit scales on; check the split (prepare.*)")
    scaled = _affine_of(features, method, min_std)
    change = moments(lambda: (np.diff(scaled.transform(sample.features), axis=0) for sample in samples))
    width = len(features.mean)
    return Scaler(
        method=method,
        features=scaled,
        actions=_identity(len(actions.mean)) if one_hot else _affine_of(actions, method, min_std),
        rewards=None if rewards is None else _affine_of(rewards, method, min_std),
        change_std=np.zeros(width, np.float32) if change is None else change.std.astype(np.float32),
        fitted_on=_digest(samples),
    )


def _affine_of(stats: Moments, method: Method, min_std: float) -> Affine:
    center, scale = (stats.mean, stats.std)
    if method == "minmax":
        center, scale = (stats.high + stats.low) / 2, (stats.high - stats.low) / 2
    finest = RESOLUTION * np.maximum(np.abs(stats.low), np.abs(stats.high))
    constant = stats.std < np.maximum(min_std, finest)
    return Affine(center.astype(np.float32), np.where(constant, np.maximum(finest, 1), scale).astype(np.float32))


def _identity(width: int) -> Affine:
    return Affine(np.zeros(width, np.float32), np.ones(width, np.float32))


def _digest(samples: Iterable[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        for array in (sample.features, sample.actions, sample.rewards):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _columns(affine: Affine) -> dict[str, list[float]]:
    return {"center": _numbers(affine.center), "scale": _numbers(affine.scale)}


def _numbers(values: Floats) -> list[float]:
    """float32 as the shortest decimals that read back to the same float32."""
    return [float(str(value)) for value in values]


def _affine(columns: _Columns) -> Affine:
    return Affine(np.asarray(columns.center, np.float32), np.asarray(columns.scale, np.float32))


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=1, sort_keys=True) + "\n"
