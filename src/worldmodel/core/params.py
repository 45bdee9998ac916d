"""params.yaml as frozen dataclasses: the one place that knows which keys exist, their types and their ranges.

A stage's class at the end names the sections that the stage reads, and of a foreign section only the base class with
the leaves it may see. Reading any other leaf is a type error for mypy and an AttributeError at run time.
"""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from worldmodel.core import mistakes
from worldmodel.core.yaml12 import read_yaml

Stage = TypeVar("Stage")

Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
CountOrNone = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Positive = Annotated[float, Field(strict=True, gt=0, lt=float("inf"))]
NotNegative = Annotated[float, Field(strict=True, ge=0, lt=float("inf"))]
Steps = Annotated[int, Field(strict=True, ge=1, le=1024)]
Rate = Annotated[float, Field(strict=True, gt=0, le=1)]
LatentSize = Annotated[int, Field(strict=True, ge=4, le=4096)]
Width = Annotated[int, Field(strict=True, ge=1, le=8192)]


def _callable_name(found: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", found):
        raise ValueError("expected module:function, such as my_folder.my_file:my_function")
    return found


CallableName = Annotated[str, Field(strict=True), AfterValidator(_callable_name)]

CLOSED = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=CLOSED)
class Teacher:
    members: Annotated[int, Field(strict=True, ge=2, le=64)]
    horizon: Steps
    steps: Count
    batch_size: Count
    lr: Rate
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)]
    points: Annotated[int, Field(strict=True, ge=0, le=20_000)]
    transition_steps: CountOrNone
    z_dim: LatentSize
    hidden_dim: Width


@dataclass(frozen=True, config=CLOSED)
class Dreams:
    seed: Seed
    episodes: CountOrNone
    length: Steps
    source: Literal["teacher", "simulator", "repeat"]
    simulator: CallableName  # imported where source is simulator
    action_noise: NotNegative
    start_noise: NotNegative
    directed_share: Share
    max_disagreement: Positive
    teacher: Teacher


@dataclass(frozen=True, config=CLOSED)
class IngestParams:
    """What decides which logged episodes exist and where each belongs: read by dreams and by prepare."""

    seed: Seed
    split_by: Literal["episode", "agent", "time"]
    val_share: Share
    test_share: Share
    margin: CountOrNone
    train_episodes: CountOrNone
    max_gap_s: Positive
    max_length_s: Positive | None
    resample_s: Positive | None
    missing: Literal["refuse", "mask"]
    max_rejected_share: Share

    def __post_init__(self) -> None:
        if self.val_share + self.test_share >= 1:
            raise ValueError(
                f"val_share + test_share is {self.val_share + self.test_share:g}, which leaves nothing to train on; "
                "make their sum less than 1"
            )


@dataclass(frozen=True, config=CLOSED)
class Prepare(IngestParams):
    format: Literal["npz", "lmdb"]


@dataclass(frozen=True, config=CLOSED)
class Normalize:
    method: Literal["standard", "minmax"]
    min_std: Positive


@dataclass(frozen=True, config=CLOSED)
class Compute:
    """What dreams and train share: the history that a window starts with, and how numbers are computed."""

    history: Steps
    threads: Annotated[int, Field(strict=True, ge=1, le=256)]
    numerics: Literal["portable", "fast"]
    device: Literal["cpu", "cuda"]


@dataclass(frozen=True, config=CLOSED)
class Train(Compute):
    seed: Seed
    rho: Share
    rho_start: Share | None
    rho_schedule: Literal["constant", "linear", "cosine"]
    dream_weighting: Literal["none", "confidence"]
    encoder: Literal["gru", "mlp", "transformer"]
    horizon: Steps
    z_dim: LatentSize
    hidden_dim: Width
    batch_size: Count
    lr: Rate
    steps: Count
    nll_start: Share
    kl_weight: NotNegative
    contrastive_weight: NotNegative
    policy_steps: CountOrNone


@dataclass(frozen=True, config=CLOSED)
class Export:
    opset: Annotated[int, Field(strict=True, ge=18, le=23)]


@dataclass(frozen=True, config=CLOSED)
class Validate:
    horizon: Steps
    tolerance: Positive
    latency_calls: Count


@dataclass(frozen=True, config=CLOSED)
class Params:
    """The whole file."""

    dreams: Dreams
    prepare: Prepare
    normalize: Normalize
    train: Train
    export: Export
    validate: Validate


@dataclass(frozen=True, config=CLOSED)
class DreamsStage:
    dreams: Dreams
    prepare: IngestParams
    normalize: Normalize
    train: Compute


@dataclass(frozen=True, config=CLOSED)
class PrepareStage:
    prepare: Prepare


@dataclass(frozen=True, config=CLOSED)
class NormalizeStage:
    normalize: Normalize


@dataclass(frozen=True, config=CLOSED)
class TrainStage:
    train: Train


@dataclass(frozen=True, config=CLOSED)
class ExportStage:
    """Everything that a bundle depends on: it carries these params, and its run-id is made of them."""

    dreams: Dreams
    prepare: IngestParams
    normalize: Normalize
    train: Train
    export: Export


@dataclass(frozen=True, config=CLOSED)
class ValidateStage:
    validate: Validate


def load(path: Path, stage: type[Stage]) -> Stage:
    """Check the whole of params.yaml, return the part that a stage declares; raises ValueError as `check` does."""
    return part(check(read_yaml(path), path), stage)


def read(path: Path) -> Params:
    """For a command that runs another combination: each key is checked, and not yet what they mean together."""
    return _typed(read_yaml(path), path)


def check(values: dict[str, Any], path: Path) -> Params:
    """What the file `path` holds, typed. Raises ValueError with a line for each unknown, missing or wrong key, or for
    each pair of keys that cannot work together.
    """
    whole = _typed(values, path)
    require_related(whole, str(path))
    return whole


def _typed(values: dict[str, Any], path: Path) -> Params:
    try:
        return TypeAdapter(Params).validate_python(values)
    except ValidationError as error:
        lines = mistakes.of_keys(error, list(leaves(Params)))
        raise ValueError("\n".join(f"{path}: {line}" for line in lines)) from None


def require_related(whole: Params, where: str, dreams_given: bool = False) -> None:
    """What a later stage would fail for, or pass over in silence.

    `where` the params are from; `dreams_given`: there are dreams, whatever the dreams section says. Raises ValueError.
    """
    if found := mistakes.of_pairs(whole, dreams_given):
        raise ValueError("\n".join(f"{where}: {mistake}" for mistake in found))


def part(whole: Any, cls: type[Stage]) -> Stage:
    """The view of `whole` that has the fields of `cls` and no others."""
    hints = get_type_hints(cls)
    values = {item.name: getattr(whole, item.name) for item in fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: part(value, hints[name]) if is_dataclass(value) else value for name, value in values.items()})


def leaves(stage: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of the leaves that a stage's class holds, as they stand under `params:` in dvc.yaml."""
    for name, kind in get_type_hints(stage).items():
        if is_dataclass(kind):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name
