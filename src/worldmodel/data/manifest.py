"""manifest.json of prepared episodes: what describes the data set, and a record for each episode."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.data.schema import ActionSpace, Source, Split, identity_of
from worldmodel.data.shards import SUFFIX
from worldmodel.data.table import Table
from worldmodel.runtime.atomic import replacing

MANIFEST = "manifest.json"
COLUMNS = ("agent_id", "file", "frames", "name", "segment", "shard", "source", "split", "terminal")  # of a record
FILE_NAME = re.compile(r"[0-9a-f]{16}\.npz")
SHARD_NAME = re.compile(r"(observed|dream)-\d{5,}\.lmdb")


@dataclass(frozen=True)
class Record:
    """One episode as the manifest describes it."""

    file: str
    agent_id: str
    name: str
    segment: int
    source: Source
    split: Split
    frames: int
    terminal: bool
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shard: str = ""  # the file that holds `file`; empty where it is a file of its own

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.file):
            raise ValueError(f"file is {self.file!r}, expected 16 hex digits and .npz")
        if self.shard and not SHARD_NAME.fullmatch(self.shard):
            raise ValueError(f"shard is {self.shard!r}, expected observed or dream, a number and {SUFFIX}")

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)


def write_manifest(path: Path, records: Sequence[Record], table: Table, action_space: ActionSpace) -> None:
    """Sorted keys, indented; the episodes one by one, since there may be many."""
    head = {
        "action": asdict(action_space),
        "counts": {
            "agent": count(records, lambda record: record.agent_id),
            "source": count(records, lambda record: record.source),
            "split": count(records, lambda record: record.split),
        },
        "episodes": [],
        "feature_count": table.features.shape[1],
        "rewards": table.rewards is not None,
    }
    before, after = json.dumps(head, sort_keys=True, indent=2).split('"episodes": []')
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", buffering=1 << 20) as stream:
        stream.write(before + '"episodes": [')
        for number, record in enumerate(records):
            stream.write(("," if number else "") + "\n    " + _entry(record))
        stream.write("\n  ]" + after + "\n")


def _entry(record: Record) -> str:
    """The record as an item of the manifest."""
    values = {key: getattr(record, key) for key in COLUMNS}
    texts = {key: json.dumps(value) for key, value in values.items() if value or key != "shard"}
    if record.provenance:
        texts["provenance"] = json.dumps(record.provenance, sort_keys=True, indent=2).replace("\n", "\n      ")
    return "{" + ",".join(f'\n      "{key}": {texts[key]}' for key in sorted(texts)) + "\n    }"


def count(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, dict[str, int]]:
    """Episodes and frames for each value of key."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        entry = counts.setdefault(key(record), {"episodes": 0, "frames": 0})
        entry["episodes"] += 1
        entry["frames"] += record.frames
    return counts
