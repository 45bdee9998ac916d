"""Prepared episodes on disk: manifest.json, and one NPZ for each episode: a file of its own, or one of many in a shard.

The manifest is written last, so that a folder without one is unfinished.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.frame import Float32
from worldmodel.data.listing import read_listing
from worldmodel.data.manifest import MANIFEST, Record, write_manifest
from worldmodel.data.npz import npz_bytes, read_npz
from worldmodel.data.schema import ActionSpace, Split, canonical
from worldmodel.data.shards import SUFFIX, Item, read_shard, write_shards
from worldmodel.data.spool import Kept
from worldmodel.data.table import Table

Format = Literal["npz", "lmdb"]

EPISODES = "episodes"


@dataclass(frozen=True)
class Arrays:
    """What one episode's file holds; what actions[t], taken in state features[t], does shows in features[t+1]."""

    timestamps: NDArray[np.float64]  # [T] seconds
    features: Float32  # [T, F] raw units
    actions: Float32 | None  # [T, A] raw units or one-hot
    rewards: Float32 | None  # [T]
    confidence: Float32 | None  # [T] 0..1, dreams that state it


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared episodes; records stand in canonical order, arrays are read when asked for."""

    folder: Path
    feature_count: int
    action_space: ActionSpace
    has_rewards: bool
    records: tuple[Record, ...]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def load(self, record: Record) -> Arrays:
        """The arrays of one record. Raises ValueError that names the file if it is missing or not as described."""
        path = self.folder / EPISODES / (record.shard or record.file)
        t, f, a = record.frames, self.feature_count, self.action_space.size
        found = _read(path, record, t * (8 + 4 * (f + a + 2)))
        expected: dict[str, tuple[str, tuple[int, ...]]] = {"timestamps": ("<f8", (t,)), "features": ("<f4", (t, f))}
        if a:
            expected["actions"] = ("<f4", (t, a))
        if self.has_rewards:
            expected["rewards"] = ("<f4", (t,))
        if record.source == "dream" and "confidence" in found:
            expected["confidence"] = ("<f4", (t,))
        shapes = {name: (array.dtype.str, array.shape) for name, array in found.items()}
        if shapes != expected:
            raise ValueError(f"{path}: holds {shapes}, expected {expected} as {MANIFEST} says; run dvc repro prepare")
        optional = {name: found.get(name) for name in ("actions", "rewards", "confidence")}
        return Arrays(timestamps=found["timestamps"], features=found["features"], **optional)


def write_prepared(
    folder: Path,
    episodes: Sequence[Kept],
    splits: Sequence[Split | None],
    action_space: ActionSpace,
    form: Format = "npz",
) -> Prepared:
    """Write the episodes that have a split, in place of what an earlier call wrote; the same bytes in every folder.

    Raises ValueError where no episode has a split, or where two share source, agent, name and segment.
    """
    chosen = [(episode, split) for episode, split in zip(episodes, splits, strict=True) if split is not None]
    kept = sorted(chosen, key=lambda pair: _order(pair[0]))
    records = [_record(episode, split) for episode, split in kept]
    _require_distinct(records)
    _remove_earlier(folder)
    if form == "lmdb":
        shards = dict(write_shards(folder / EPISODES, _items(chosen, action_space)))
        records = [replace(record, shard=shards[record.file]) for record in records]
    else:
        for _, file, content in _items(kept, action_space):
            (folder / EPISODES / file).write_bytes(content)
    table = kept[0][0].table()
    write_manifest(folder / MANIFEST, records, table, action_space)
    return Prepared(folder, table.features.shape[1], action_space, table.rewards is not None, tuple(records))


def _items(chosen: Sequence[tuple[Kept, Split]], action_space: ActionSpace) -> Iterator[Item]:
    """Source, file and content of each episode, one after the other; observed ones first."""
    ordered = sorted(chosen, key=lambda pair: pair[0].source == "dream")
    for episode, split in tqdm(ordered, desc="episodes", unit="episode", disable=None):
        yield episode.source, _record(episode, split).file, npz_bytes(_arrays(episode.table(), action_space))


def _order(episode: Kept) -> tuple[bool, str, str, int]:
    return (episode.source == "dream", episode.agent_id, episode.name, episode.segment)


def _record(episode: Kept, split: Split) -> Record:
    identity = canonical([episode.source, episode.identity, episode.segment])
    return Record(
        file=hashlib.sha256(identity.encode()).hexdigest()[:16] + ".npz",
        agent_id=episode.agent_id,
        name=episode.name,
        segment=episode.segment,
        source=episode.source,
        split=split,
        frames=episode.length,
        terminal=episode.terminal,
        provenance=episode.provenance,
    )


def _require_distinct(records: Sequence[Record]) -> None:
    if not records:
        raise ValueError("no episode to write, expected one or more that have a split")
    file, count = Counter(record.file for record in records).most_common(1)[0]
    if count > 1:
        same = [
            f"{record.source} {record.identity} segment {record.segment}" for record in records if record.file == file
        ]
        raise ValueError(f"{', '.join(same)}: {count} episodes would be {file}, expected distinct segments")


def _arrays(table: Table, action_space: ActionSpace) -> dict[str, NDArray[Any]]:
    arrays = table._replace(actions=action_space.encode(table.actions))._asdict()
    return {name: array for name, array in arrays.items() if array is not None}


def _remove_earlier(folder: Path) -> None:
    """Unlink rather than overwrite: the files may be links into a cache."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in (folder / EPISODES).glob("*"):
        if path.suffix in (".npz", SUFFIX):
            path.unlink()
    (folder / EPISODES).mkdir(parents=True, exist_ok=True)


def read_prepared(folder: Path) -> Prepared:
    """Open a folder that write_prepared wrote. Raises ValueError that names what is missing or not as it should be."""
    path = folder / MANIFEST
    try:
        found, items = read_listing(path, "episodes")
        prepared = Prepared(
            folder=folder,
            feature_count=found["feature_count"],
            action_space=ActionSpace(**found["action"]),
            has_rewards=found["rewards"],
            records=tuple(Record(**item) for item in items),
        )
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected prepared episodes, run dvc repro prepare") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a manifest of prepared episodes ({error!r}); run dvc repro prepare") from None
    files = dict.fromkeys(record.shard or record.file for record in prepared)
    missing = [file for file in files if not (folder / EPISODES / file).is_file()]
    if missing:
        raise ValueError(
            f"{folder / EPISODES}: {len(missing)} of {len(files)} files that {MANIFEST} lists are missing, "
            f"{missing[0]} first; run dvc repro prepare"
        )
    return prepared


def _read(path: Path, record: Record, most: int) -> dict[str, NDArray[Any]]:
    try:
        content = read_shard(path, record.file) if record.shard else path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run dvc repro prepare") from None
    try:
        return read_npz(io.BytesIO(content), most)
    except ValueError as error:
        kind = f"holds {record.file}, not" if record.shard else "not"
        raise ValueError(f"{path}: {kind} a readable NPZ ({error}); run dvc repro prepare") from None
