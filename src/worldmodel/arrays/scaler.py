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
            "change_std": numbers(self.change_std),
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
    low: list[Float] | None = None
    high: list[Float] | None = None

    def __post_init__(self) -> None:
        width, raw = sum(each.width for each in self.columns) or len(self.center), len(self.columns or self.center)
        if not len(self.center) == len(self.scale) == len(self.std or self.scale) == width:
            raise ValueError(f"{len(self.center)} centers and {len(self.scale)} scales of {width} columns")
        if {None if end is None else len(end) for end in (self.low, self.high)} not in ({None}, {raw}):
            raise ValueError(f"low and high are not those of {raw} columns")

    def affine(self) -> Affine:
        scalar: type[np.floating[Any]] = np.float64 if self.float64 else np.float32
        std = None if self.std is None else np.asarray(self.std, np.float32)
        low, high = (None if each is None else np.array(each, scalar) for each in (self.low, self.high))
        return Affine(np.array(self.center, scalar), np.asarray(self.scale, np.float32), self.columns, std, low, high)


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
        _Part(_coded(tables, part, getattr(described, part))) for part in ("features", "actions", "context")
    )
    rewards, changed = _Part(()), Running()
    digest = hashlib.sha256()
    scalar: type[np.floating[Any]] = np.float32
    for table in tables:
        changed.add(np.diff(features.add(table.features).astype(np.float64), axis=0))
        if table.actions is not None:
            actions.add(table.actions.astype(np.float32, copy=False))
        if table.context is not None:
            context.add(table.context)
        if table.rewards is not None:
            rewards.add(table.rewards[:, None])
        _add(digest, table)
        scalar = np.float64 if table.features.dtype == np.float64 else scalar
    scaled, taken = features.affine(method, min_std, scalar), actions.affine(method, min_std)
    if scaled is None:
        raise ValueError("no observed train episode to fit scales on; check the split (prepare.*)")
    changes = changed.moments()
    moved = np.zeros(len(scaled.center)) if changes is None else changes.std / scaled.scale
    return Scaler(
        method=method,
        features=scaled,
        actions=identity(len(taken.center)) if one_hot and taken else taken or identity(0),
        rewards=rewards.affine(method, min_std),
        change_std=moved.astype(np.float32),
        fitted_on=digest.hexdigest(),
        context=context.affine(method, min_std) or identity(0),
    )


class _Part:
    """Moments of standardized columns, and of the raw ones where these are not the same."""

    def __init__(self, columns: tuple[Coded, ...]) -> None:
        self.columns, self.moments = columns, Running()
        self.raw = Running() if any(each.kind != "value" for each in columns) else self.moments

    def add(self, raw: Reals) -> Reals:
        """[n, F] -> [n, G]"""
        rows = expanded(raw, self.columns)
        for running, block in {self.moments: rows, self.raw: raw}.items():
            running.add(block)
        return rows

    def affine(self, method: Method, min_std: float, scalar: type[np.floating[Any]] = np.float32) -> Affine | None:
        """None where no row was added."""
        stats, seen = self.moments.moments(), self.raw.moments()
        if stats is None or seen is None:
            return None
        scaled = fitted(stats, self.columns, method, min_std, scalar)
        return replace(scaled, low=seen.low.astype(scalar), high=seen.high.astype(scalar))


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
    body: dict[str, Any] = {"columns": [_described(each) for each in affine.columns]} if affine.columns else {}
    for name in ("center", "scale", "std", "low", "high"):
        if (values := getattr(affine, name)) is not None:
            body[name] = numbers(values)
    return body | ({"float64": True} if affine.center.dtype == np.float64 else {})


def _described(column: Coded) -> dict[str, Any]:
    values = {name: getattr(column, name) for name in ("name", "unit", "kind", "classes", "least")}
    return {name: list(value) if name == "classes" else value for name, value in values.items() if value}


def numbers(values: Reals | None) -> list[float]:
    """The shortest decimals that read back to the same float32 or float64; none of None."""
    return [] if values is None else [float(str(value)) for value in values]


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=1, sort_keys=True) + "\n"
