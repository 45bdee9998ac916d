"""Prepared episodes on disk: manifest.json, and an NPZ for each episode, in a file of its own or in a shard.

The manifest is written last, so that a folder without one is unfinished.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.core.listing import read_listing
from worldmodel.episodes.schema import ActionSpace, Split, canonical
from worldmodel.episodes.table import Table
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.store.manifest import MANIFEST, Record, write_manifest
from worldmodel.store.npz import npz_bytes, read_npz
from worldmodel.store.shards import Item, read_shard, write_shards

Format = Literal["npz", "lmdb"]

EPISODES = "episodes"
OWN = (MANIFEST, EPISODES)  # of the folder


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared episodes. Iterating reads the records, in canonical order; `load` reads arrays."""

    folder: Path
    feature_count: int
    action_space: ActionSpace
    has_rewards: bool
    count: int

    def __iter__(self) -> Iterator[Record]:
        return _read_records(self.folder)

    def __len__(self) -> int:
        return self.count

    def load(self, record: Record) -> Table:
        """The arrays of one record. Raises ValueError that names the file if it is missing or not as described."""
        path = self.folder / EPISODES / (record.shard or record.file)
        t, f, a = record.frames, self.feature_count, self.action_space.size
        arrays = _read(path, record, t * (8 + 4 * (f + a + 2)))
        expected: dict[str, tuple[str, tuple[int, ...]]] = {"timestamps": ("<f8", (t,)), "features": ("<f4", (t, f))}
        if a:
            expected["actions"] = ("<f4", (t, a))
        if self.has_rewards:
            expected["rewards"] = ("<f4", (t,))
        if record.source == "dream" and "confidence" in arrays:
            expected["confidence"] = ("<f4", (t,))
        shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        if shapes != expected:
            raise ValueError(f"{path}: holds {shapes}, expected {expected} as {MANIFEST} says; run dvc repro prepare")
        return Table._make(map(arrays.get, Table._fields))


def write_prepared(
    folder: Path,
    episodes: Sequence[EpisodeView],
    splits: Sequence[Split | None],
    action_space: ActionSpace,
    form: Format = "npz",
) -> Prepared:
    """Write the episodes that have a split into a new folder; the same bytes in every folder.

    Raises ValueError where no episode has a split, or where two share source, agent, name and segment.
    """
    chosen = [index for index, split in enumerate(splits) if split is not None]
    if not chosen:
        raise ValueError("no episode to write, expected one or more that have a split")
    records = _Records(episodes, splits, sorted(chosen, key=lambda index: _rank(episodes[index])))
    _require_distinct(records)
    (folder / EPISODES).mkdir(parents=True, exist_ok=True)
    if form == "lmdb":
        observed_first = sorted(chosen, key=lambda index: episodes[index].source == "dream")
        files = _files((episodes[index] for index in observed_first), len(chosen), action_space)
        records = replace(records, shards=dict(write_shards(folder / EPISODES, files)))
    else:
        for _, file, content in _files((episodes[index] for index in records.order), len(chosen), action_space):
            (folder / EPISODES / file).write_bytes(content)
    table = episodes[chosen[0]].table()
    write_manifest(folder / MANIFEST, records, table, action_space)
    return Prepared(folder, table.features.shape[1], action_space, table.rewards is not None, len(chosen))


@dataclass(frozen=True)
class _Records:
    """Records of the episodes that have a split, in canonical order; each is made when its turn comes."""

    episodes: Sequence[EpisodeView]
    splits: Sequence[Split | None]
    order: Sequence[int]
    shards: Mapping[str, str] = field(default_factory=dict)  # by file

    def __iter__(self) -> Iterator[Record]:
        for index in self.order:
            episode, split = self.episodes[index], self.splits[index]
            assert split is not None
            file = _file_of(episode)
            yield Record(
                file=file,
                agent_id=episode.agent_id,
                name=episode.name,
                segment=episode.segment,
                source=episode.source,
                split=split,
                frames=episode.length,
                terminal=episode.terminal,
                provenance=episode.provenance,
                shard=self.shards.get(file, ""),
            )


def _rank(episode: EpisodeView) -> tuple[bool, str, str, int]:
    """The canonical order: observed ones first, by agent, name and segment."""
    return episode.source == "dream", episode.agent_id, episode.name, episode.segment


def _file_of(episode: EpisodeView) -> str:
    identity = canonical([episode.source, episode.identity, episode.segment])
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"


def _files(episodes: Iterable[EpisodeView], count: int, action_space: ActionSpace) -> Iterator[Item]:
    """Source, file name and content of each episode."""
    for episode in tqdm(episodes, total=count, desc="episodes", unit="episode", disable=None):
        table = episode.table()
        arrays = table._replace(actions=action_space.encode(table.actions))._asdict()
        present = {name: array for name, array in arrays.items() if array is not None}
        yield episode.source, _file_of(episode), npz_bytes(present)


def _require_distinct(records: _Records) -> None:
    numbers = np.fromiter((int(record.file[:16], 16) for record in records), np.uint64)
    number, count = np.unique(numbers, return_counts=True)
    if count.max() > 1:
        file = f"{number[count.argmax()]:016x}.npz"
        same = [
            f"{record.source} {record.identity} segment {record.segment}" for record in records if record.file == file
        ]
        raise ValueError(f"{', '.join(same)}: {count.max()} episodes would be {file}, expected distinct segments")


def read_prepared(folder: Path) -> Prepared:
    """Open a folder that write_prepared wrote. Raises ValueError that names what is missing or not as it should be."""
    if not (folder / MANIFEST).exists():
        raise ValueError(f"{folder / MANIFEST}: no such file; expected prepared episodes, run dvc repro prepare")
    with _naming(folder / MANIFEST):
        head, _ = read_listing(folder / MANIFEST, EPISODES)
        space = ActionSpace(**head["action"])
        count = sum(each["episodes"] for each in head["counts"]["source"].values())
        prepared = Prepared(folder, head["feature_count"], space, head["rewards"], count)
    _require_files(prepared)
    return prepared


def _read_records(folder: Path) -> Iterator[Record]:
    with _naming(folder / MANIFEST):
        for item in read_listing(folder / MANIFEST, EPISODES)[1]:
            yield Record(**item)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the manifest."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a manifest of prepared episodes ({error!r}); run dvc repro prepare") from None


def _require_files(prepared: Prepared) -> None:
    shards = dict.fromkeys(record.shard for record in prepared if record.shard)
    files = shards or (record.file for record in prepared)
    missing = [file for file in files if not (prepared.folder / EPISODES / file).is_file()]
    if missing:
        raise ValueError(
            f"{prepared.folder / EPISODES}: {len(missing)} of {len(shards) or len(prepared)} files that {MANIFEST} "
            f"lists are missing, {missing[0]} first; run dvc repro prepare"
        )


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
