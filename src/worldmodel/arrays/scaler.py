"""Scales: raw units <-> standardized units. No other file converts; fitted on observed train episodes alone."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.arrays.affine import Affine, Coded, expanded, fitted, identity
from worldmodel.arrays.moments import Running
from worldmodel.core.checked import CLOSED, Float, Sha256, checked
from worldmodel.core.integrity import require_file, require_same
from worldmodel.core.typing import Floats, Reals
from worldmodel.episodes.columns import Column, Columns
from worldmodel.episodes.table import Table

MIN_SPREAD = 1e-6  # standardized units; what spreads less counts as constant
MOST_CLASSES = 256  # of a category

Method = Literal["standard", "minmax"]
UNITS: dict[Method, str] = {"standard": "standard deviations", "minmax": "halves of the range"}  # standardized ones
REMEDY = "run `dvc repro normalize`"


@dataclass(frozen=True)
class Scaler:
    method: Method
    features: Affine  # [F]
    actions: Affine  # [A]; the identity where actions are one-hot
    rewards: Affine | None  # [1]
    change_std: Floats  # [G] spread of the one-step change, standardized units; 0 where a feature never changes
    fitted_on: str  # sha256 of the arrays
    context: Affine = field(default_factory=lambda: identity(0))  # [C]

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which features count as constant, [F]: those of scale 1 whose one-step changes are below MIN_SPREAD."""
        moving = (self.features.scale != 1) | (self.change_std >= MIN_SPREAD)
        still: NDArray[np.bool_] = np.bincount(self.features.sources, moving, self.features.width) == 0
        return still

    @property
    def sha256(self) -> str:
        """Hash of all that to_json says beside it: unlike `fitted_on`, it differs by method too."""
        return hashlib.sha256(_json(self._body()).encode()).hexdigest()

    def to_json(self) -> str:
        return _json(self._body() | {"sha256": self.sha256})

    def _body(self) -> dict[str, Any]:
        context = {"context": _columns(self.context)} if self.context.width else {}
        return {
            "method": self.method,
            "features": _columns(self.features),
            "actions": _columns(self.actions),
            "rewards": None if self.rewards is None else _columns(self.rewards),
            "change_std": _numbers(self.change_std),
            "fitted_on": {"sha256": self.fitted_on},
        } | context

    @staticmethod
    def read(path: Path) -> "Scaler":
        """Raises ValueError where the file is missing, or not what normalize wrote."""
        require_file(path, REMEDY)
        try:
            body = checked(_File, json.loads(path.read_text(encoding="utf-8")))
            scaler = Scaler(
                method=body.method,
                features=body.features.affine(),
                actions=body.actions.affine(),
                rewards=None if body.rewards is None else body.rewards.affine(),
                change_std=np.asarray(body.change_std, np.float32),
                fitted_on=body.fitted_on["sha256"],
                context=body.context.affine() if body.context else identity(0),
            )
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not a normalizer ({error}); {REMEDY}") from None
        require_same(path, scaler.sha256, body.sha256, REMEDY)
        return scaler


@checked_dataclass(frozen=True, config=CLOSED)
class _Columns:
    center: list[Float]
    scale: list[Annotated[Float, Field(ge=1e-45)]]
    columns: tuple[Coded, ...] = ()
    float64: Annotated[bool, Field(strict=True)] = False
    std: list[Annotated[Float, Field(ge=1e-45)]] | None = None

    def __post_init__(self) -> None:
        width = sum(each.width for each in self.columns) or len(self.center)
        if not len(self.center) == len(self.scale) == len(self.std or self.scale) == width:
            raise ValueError(f"{len(self.center)} centers and {len(self.scale)} scales of {width} columns")

    def affine(self) -> Affine:
        center: Reals = np.array(self.center, np.float64 if self.float64 else np.float32)
        std = None if self.std is None else np.asarray(self.std, np.float32)
        return Affine(center, np.asarray(self.scale, np.float32), self.columns, std)


@checked_dataclass(frozen=True, config=CLOSED)
class _File:
    method: Method
    features: _Columns
    actions: _Columns
    rewards: _Columns | None
    change_std: list[Float]
    fitted_on: dict[Literal["sha256"], Sha256]
    sha256: Sha256
    context: _Columns | None = None


def fit(
    tables: Iterable[Table], method: Method, min_std: float, one_hot: bool, columns: Columns | None = None
) -> Scaler:
    """Fit on observed train episodes, whose actions are encoded; they are gone over once, and once more for the range
    of angles and the classes of categories.

    A feature whose raw standard deviation is below min_std, or below what its numbers resolve at its size, counts as
    constant: it is centered, with scale 1 or that resolution if it is larger.
    Raises ValueError without episodes.
    """
    assert not isinstance(tables, Iterator), "tables can be iterated only once"
    described = columns or Columns()
    features, actions, context = (
        _coded(tables, part, getattr(described, part)) for part in ("features", "actions", "context")
    )
    of_features, of_actions, of_context, of_rewards, of_changes = (Running() for _ in range(5))
    digest = hashlib.sha256()
    scalar: type[np.floating[Any]] = np.float32
    for table in tables:
        rows = expanded(table.features, features)
        of_features.add(rows)
        of_changes.add(np.diff(rows.astype(np.float64), axis=0))
        if table.actions is not None:
            of_actions.add(expanded(table.actions.astype(np.float32, copy=False), actions))
        if table.context is not None:
            of_context.add(expanded(table.context, context))
        if table.rewards is not None:
            of_rewards.add(table.rewards[:, None])
        _add(digest, table)
        scalar = np.float64 if table.features.dtype == np.float64 else scalar
    stats, taken, around, earned = (each.moments() for each in (of_features, of_actions, of_context, of_rewards))
    if stats is None:
        raise ValueError("no observed train episode to fit scales on; check the split (prepare.*)")
    scaled, changes = fitted(stats, features, method, min_std, scalar), of_changes.moments()
    moved = np.zeros(len(scaled.center)) if changes is None else changes.std / scaled.scale
    return Scaler(
        method=method,
        features=scaled,
        actions=identity(0)
        if taken is None
        else identity(len(taken.mean))
        if one_hot
        else fitted(taken, actions, method, min_std, np.float32),
        rewards=None if earned is None else fitted(earned, (), method, min_std, np.float32),
        change_std=moved.astype(np.float32),
        fitted_on=digest.hexdigest(),
        context=identity(0) if around is None else fitted(around, context, method, min_std, np.float32),
    )


def _coded(tables: Iterable[Table], part: str, columns: Sequence[Column]) -> tuple[Coded, ...]:
    """What is said of the columns, with the range of angles and the classes of categories."""
    coded = [Coded(each.name, each.unit, each.kind) for each in columns]
    classes = {at: set[float]() for at, each in enumerate(columns) if each.kind == "category"}
    angles = [at for at, each in enumerate(columns) if each.kind == "angle"]
    for table in tables if classes or angles else ():
        array: Reals = getattr(table, part)
        for at, known in classes.items():
            known.update(np.unique(array[~np.isnan(array[:, at]), at]).tolist())
            if len(known) > MOST_CLASSES:
                raise ValueError(
                    f"{part} {at} ({coded[at].name}) is a category of more than {MOST_CLASSES} values; call it a value "
                    "in features.yaml"
                )
        for at in angles:
            if (array[:, at] < 0).any():
                coded[at] = replace(coded[at], least=-coded[at].turn / 2)
    for at, known in classes.items():
        coded[at] = replace(coded[at], classes=tuple(sorted(known)))
    return tuple(coded)


def _add(digest: Any, table: Table) -> None:
    for array in (table.features, table.actions):
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    digest.update(b"-" if table.rewards is None else table.rewards.tobytes())
    digest.update(b"" if table.context is None else np.ascontiguousarray(table.context).tobytes())


def _columns(affine: Affine) -> dict[str, Any]:
    wide = affine.center.dtype == np.float64
    body: dict[str, Any] = {
        "center": affine.center.tolist() if wide else _numbers(affine.center),
        "scale": _numbers(affine.scale),
    }
    if affine.columns:
        body["columns"] = [_described(each) for each in affine.columns]
    if affine.std is not None:
        body["std"] = _numbers(affine.std)
    return body | ({"float64": True} if wide else {})


def _described(column: Coded) -> dict[str, Any]:
    values = {name: getattr(column, name) for name in ("name", "unit", "kind", "classes", "least")}
    return {name: list(value) if name == "classes" else value for name, value in values.items() if value}


def _numbers(values: Reals) -> list[float]:
    """float32 as the shortest decimals that read back to the same float32."""
    return [float(str(value)) for value in values]


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=1, sort_keys=True) + "\n"
