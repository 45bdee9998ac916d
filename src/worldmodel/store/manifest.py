"""manifest.json of prepared episodes: what describes the data set, and a record for each episode."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.core.checked import CLOSED, Flag, Float, Sha256, Text, Whole
from worldmodel.core.listing import write_listing
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.schema import ActionSpace, Source, Split, identity_of
from worldmodel.store.shards import SUFFIX

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"[0-9a-f]{16}\.npz")
SHARD_NAME = re.compile(r"(observed|dream)-\d{5,}\.lmdb")


@dataclass(frozen=True, slots=True)
class Record:
    """One episode as the manifest describes it."""

    __pydantic_config__: ClassVar[ConfigDict] = CLOSED

    file: Text
    agent_id: Text
    name: Text
    segment: Whole
    source: Source
    split: Split
    frames: Whole
    terminal: Flag
    sha256: Annotated[str, Field(strict=True, pattern="^[0-9a-f]{16}$")]  # of the NPZ's bytes, first digits
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shard: Text = ""  # the file that holds `file`; empty where it is a file of its own
    truncated: Flag = False

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.file):
            raise ValueError(f"file is {self.file!r}, expected 16 hex digits and .npz")
        if self.shard and not SHARD_NAME.fullmatch(self.shard):
            raise ValueError(f"shard is {self.shard!r}, expected observed or dream, a number and {SUFFIX}")

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)


KEYS = [key.name for key in fields(Record)]
OPTIONAL = ("provenance", "shard", "truncated")  # left out where empty


@checked_dataclass(frozen=True, kw_only=True, config=CLOSED | {"validate_by_name": True})
class DataSet:
    """What all episodes have in common; a key of the manifest that says no more than its default is left out."""

    action_space: Annotated[ActionSpace, Field(alias="action")]
    feature_count: Whole
    has_rewards: Annotated[Flag, Field(alias="rewards")]
    columns: Columns = field(default_factory=Columns)
    context_count: Annotated[Whole, Field(alias="context")] = 0
    interval_s: Annotated[Float, Field(ge=0)] = 0.0  # from frame to frame
    missing: Flag = False  # whether any reading is, which is NaN then
    wide: Flag = False  # features are float64
    shards: dict[Text, Sha256] = field(default_factory=dict)  # of each file


@checked_dataclass(frozen=True, kw_only=True, config=CLOSED)
class Head(DataSet):
    """The manifest without its episodes."""

    counts: dict[Literal["agent", "source", "split"], dict[Text, dict[Literal["episodes", "frames"], Whole]]]
    episodes: tuple[()]


def write_manifest(path: Path, records: Iterable[Record], data: DataSet) -> None:
    """`records` are iterated twice."""
    counts = count(
        records,
        agent=lambda record: record.agent_id,
        source=lambda record: record.source,
        split=lambda record: record.split,
    )
    head = TypeAdapter(DataSet).dump_python(data, mode="json", by_alias=True, exclude_defaults=True)
    write_listing(path, {**head, "counts": counts}, "episodes", map(_entry, records), pad=2)


def _entry(record: Record) -> dict[str, Any]:
    values = {key: getattr(record, key) for key in KEYS}
    return {key: value for key, value in values.items() if value or key not in OPTIONAL}


def count(records: Iterable[Record], **by: Callable[[Record], str]) -> dict[str, dict[str, dict[str, int]]]:
    """Episodes and frames for each value of each key."""
    counts: dict[str, dict[str, dict[str, int]]] = {name: {} for name in by}
    for record in records:
        for name, key in by.items():
            entry = counts[name].setdefault(key(record), {"episodes": 0, "frames": 0})
            entry["episodes"] += 1
            entry["frames"] += record.frames
    return counts
