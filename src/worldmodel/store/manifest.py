"""manifest.json of prepared episodes: what describes the data set, and a record for each episode."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.core.checked import CLOSED, Sha256, Text, Whole
from worldmodel.core.listing import write_listing
from worldmodel.episodes.schema import ActionSpace, Kind, Source, Split, identity_of
from worldmodel.episodes.table import Table
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
    terminal: Annotated[bool, Field(strict=True)]
    sha256: Annotated[str, Field(strict=True, pattern="^[0-9a-f]{16}$")]  # of the NPZ's bytes, first digits
    provenance: Mapping[str, Any] = field(default_factory=dict)
    truncated: Annotated[bool, Field(strict=True)] = False
    shard: Text = ""  # the file that holds `file`; empty where it is a file of its own

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.file):
            raise ValueError(f"file is {self.file!r}, expected 16 hex digits and .npz")
        if self.shard and not SHARD_NAME.fullmatch(self.shard):
            raise ValueError(f"shard is {self.shard!r}, expected observed or dream, a number and {SUFFIX}")

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)


COLUMNS = [column.name for column in fields(Record)]


@checked_dataclass(frozen=True, config=CLOSED)
class Action:
    kind: Kind
    size: Whole


@checked_dataclass(frozen=True, config=CLOSED)
class Head:
    """The manifest without its episodes."""

    action: Action
    counts: dict[Literal["agent", "source", "split"], dict[Text, dict[Literal["episodes", "frames"], Whole]]]
    episodes: tuple[()]
    feature_count: Whole
    rewards: Annotated[bool, Field(strict=True)]
    shards: dict[Text, Sha256] = field(default_factory=dict)  # of each file


def write_manifest(
    path: Path, records: Iterable[Record], table: Table, action_space: ActionSpace, shards: Mapping[str, str]
) -> None:
    """`records` are iterated twice; `shards`: sha256 of each file, none where each episode is a file of its own."""
    head = {
        "action": asdict(action_space),
        "counts": count(
            records,
            agent=lambda record: record.agent_id,
            source=lambda record: record.source,
            split=lambda record: record.split,
        ),
        "feature_count": table.features.shape[1],
        "rewards": table.rewards is not None,
    } | ({"shards": shards} if shards else {})
    write_listing(path, head, "episodes", map(_entry, records), pad=2)


def _entry(record: Record) -> dict[str, Any]:
    values = {column: getattr(record, column) for column in COLUMNS}
    optional = ("provenance", "shard", "truncated")
    return {column: value for column, value in values.items() if value or column not in optional}


def count(records: Iterable[Record], **by: Callable[[Record], str]) -> dict[str, dict[str, dict[str, int]]]:
    """Episodes and frames for each value of each key."""
    counts: dict[str, dict[str, dict[str, int]]] = {name: {} for name in by}
    for record in records:
        for name, key in by.items():
            entry = counts[name].setdefault(key(record), {"episodes": 0, "frames": 0})
            entry["episodes"] += 1
            entry["frames"] += record.frames
    return counts
