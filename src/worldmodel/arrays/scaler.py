"""Scales: raw units <-> standardized units. No other file converts; fitted on observed train episodes alone."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.arrays.affine import Affine, Coded, expanded, fitted, identity
from worldmodel.arrays.batches import Batched, applied
from worldmodel.arrays.moments import Block, Running, block_of
from worldmodel.core.checked import CLOSED, Float, Sha256, checked
from worldmodel.core.integrity import require_file, require_same
from worldmodel.core.typing import Floats, Reals
from worldmodel.episodes.columns import Columns
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
    tables: Iterable[Table] | Batched,
    method: Method,
    min_std: float,
    one_hot: bool,
    columns: Columns | None = None,
) -> Scaler:
    """Fit on observed train episodes, whose actions are encoded; they are gone over once, and once more for the range
    of angles and the classes of categories.

    A feature whose raw standard deviation is below min_std, or below what its numbers resolve at its size, counts as
    constant: it is centered, with scale 1 or that resolution if it is larger.
    Raises ValueError without episodes.
    """
    assert not isinstance(tables, Iterator), "tables can be iterated only once"
    coded = _coded(tables, columns or Columns())
    seen, digest, wide = defaultdict[str, Running](Running), hashlib.sha256(), False
    for facts in applied(tables, partial(_facts, coded)):
        for name, block in facts.blocks.items():
            seen[name].merge(block)
        digest.update(facts.digest)
        wide |= facts.wide

    def affine(part: str, scalar: type[np.floating[Any]] = np.float32) -> Affine | None:
        """None where no row was added."""
        stats, raw = seen[part].moments(), seen[f"raw {part}" if f"raw {part}" in seen else part].moments()
        if stats is None or raw is None:
            return None
        scaled = fitted(stats, coded.get(part, ()), method, min_std, scalar)
        return replace(scaled, low=raw.low.astype(scalar), high=raw.high.astype(scalar))

    scaled, taken = affine("features", np.float64 if wide else np.float32), affine("actions")
    if scaled is None:
        raise ValueError("no observed train episode to fit scales on; check the split (prepare.*)")
    changes = seen["changes"].moments()
    moved = np.zeros(len(scaled.center)) if changes is None else changes.std / scaled.scale
    return Scaler(
        method=method,
        features=scaled,
        actions=identity(len(taken.center)) if one_hot and taken else taken or identity(0),
        rewards=affine("rewards"),
        change_std=moved.astype(np.float32),
        fitted_on=digest.hexdigest(),
        context=affine("context") or identity(0),
    )


class _Facts(NamedTuple):
    """Of one table."""

    blocks: dict[str, Block | None]  # of each part; where columns are coded, of the raw ones too
    digest: bytes  # of its arrays
    wide: bool  # features are float64


def _facts(coded: Mapping[str, tuple[Coded, ...]], tables: Iterable[Table], _: int) -> Iterator[_Facts]:
    for table in tables:
        blocks, digest = dict[str, Block | None](), hashlib.sha256()
        for part, columns in coded.items():
            raw: Reals | None = getattr(table, part)
            digest.update(b"-" if raw is None else np.ascontiguousarray(raw).tobytes())
            if raw is None:
                continue
            raw = raw if part == "features" else raw.astype(np.float32, copy=False)
            rows = expanded(raw, columns)
            blocks[part] = block_of(rows)
            if any(each.kind != "value" for each in columns):
                blocks[f"raw {part}"] = block_of(raw)
            if part == "features":
                blocks["changes"] = block_of(np.diff(rows.astype(np.float64), axis=0))
        digest.update(b"-" if table.rewards is None else table.rewards.tobytes())
        if table.rewards is not None:
            blocks["rewards"] = block_of(table.rewards[:, None])
        yield _Facts(blocks, digest.digest(), table.features.dtype == np.float64)


def _coded(tables: Iterable[Table] | Batched, columns: Columns) -> dict[str, tuple[Coded, ...]]:
    """By part what is said of its columns, with the range of angles and the classes of categories."""
    coded = {
        part: [Coded(each.name, each.unit, each.kind) for each in getattr(columns, part)]
        for part in ("features", "actions", "context")
    }
    classes, negative = defaultdict[tuple[str, int], set[float]](set), set[tuple[str, int]]()
    special = {
        (part, at): each.kind for part, own in coded.items() for at, each in enumerate(own) if each.kind != "value"
    }
    for found in applied(tables, partial(_values, special)) if special else ():
        for (part, at), values in found.items():
            if special[part, at] == "angle":
                negative |= {(part, at)} if values else set()
                continue
            classes[part, at] |= values
            if len(classes[part, at]) > MOST_CLASSES:
                raise ValueError(
                    f"{part} {at} ({coded[part][at].name}) is a category of more than {MOST_CLASSES} values; call it a "
                    "value in features.yaml"
                )
    for (part, at), kind in special.items():
        each = coded[part][at]
        if kind == "category":
            coded[part][at] = replace(each, classes=tuple(sorted(classes[part, at])))
        elif (part, at) in negative:
            coded[part][at] = replace(each, least=-each.turn / 2)
    return {part: tuple(own) for part, own in coded.items()}


def _values(
    special: Mapping[tuple[str, int], str], tables: Iterable[Table], _: int
) -> Iterator[dict[tuple[str, int], set[float]]]:
    """Of each table: the values of a category, more than are allowed at most; of an angle, one that is negative."""
    for table in tables:
        found = dict[tuple[str, int], set[float]]()
        for (part, at), kind in special.items():
            column = getattr(table, part)[:, at]
            values = column[column < 0][:1] if kind == "angle" else np.unique(column[~np.isnan(column)])
            found[part, at] = set(values[: MOST_CLASSES + 1].tolist())
        yield found


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
