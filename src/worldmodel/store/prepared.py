"""Prepared episodes on disk: manifest.json, and an NPZ for each episode, in a file of its own or in a shard.

The manifest is written last, so that a folder without one is unfinished.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as checked_dataclass
from tqdm import tqdm

from worldmodel.core.checked import checked
from worldmodel.core.fingerprint import sha256
from worldmodel.core.integrity import SHORT, require_file, require_same
from worldmodel.core.listing import read_listing
from worldmodel.episodes.columns import NAMELESS, Columns
from worldmodel.episodes.frame import is_finite
from worldmodel.episodes.schema import ActionSpace, Split, canonical
from worldmodel.episodes.table import Table
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.store.manifest import MANIFEST, DataSet, Head, Record, write_manifest
from worldmodel.store.npz import npz_bytes, read_npz
from worldmodel.store.shards import REMEDY, Item, read_shard, write_shards

Format = Literal["npz", "lmdb"]

EPISODES = "episodes"
OWN = (MANIFEST, EPISODES)  # of the folder


@checked_dataclass(frozen=True, kw_only=True)
class Prepared(DataSet):
    """A folder of prepared episodes. Iterating reads the records, in canonical order; `load` reads arrays."""

    folder: Path
    count: int

    def __iter__(self) -> Iterator[Record]:
        return _read_records(self.folder, lambda item: Record(**item))

    def __len__(self) -> int:
        return self.count

    def load(self, record: Record) -> Table:
        """The arrays of one record. Raises ValueError that names the file if it is missing or not as described."""
        path = self.folder / EPISODES / (record.shard or record.file)
        t, kind = record.frames, "<f8" if self.wide else "<f4"
        widths = {"features": self.feature_count, "actions": self.action_space.size, "context": self.context_count}
        arrays = self._read(path, record, t * 8 * (sum(widths.values()) + 3))
        expected: dict[str, tuple[str, tuple[int, ...]]] = {"timestamps": ("<f8", (t,))}
        for name, width in widths.items():
            if width:
                expected[name] = (kind if name == "features" else "<f4", (t, width))
        if self.has_rewards:
            expected["rewards"] = ("<f4", (t,))
        if record.source == "dream" and "confidence" in arrays:
            expected["confidence"] = ("<f4", (t,))
        shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        if shapes != expected:
            raise ValueError(f"{path}: holds {shapes}, expected {expected} as {MANIFEST} says; {REMEDY}")
        return Table._make(map(arrays.get, Table._fields))

    def _read(self, path: Path, record: Record, most: int) -> dict[str, NDArray[Any]]:
        if record.shard:
            content = read_shard(path, record.file, self.shards.get(record.shard, ""))
            path = path / record.file
        else:
            require_file(path, REMEDY)
            content = path.read_bytes()
        require_same(path, _digest(content), record.sha256, REMEDY)
        try:
            return read_npz(io.BytesIO(content), most)
        except ValueError as error:
            raise ValueError(f"{path}: not a readable NPZ ({error}); {REMEDY}") from None


def write_prepared(
    folder: Path,
    episodes: Sequence[EpisodeView],
    splits: Sequence[Split | None],
    action_space: ActionSpace,
    form: Format = "npz",
    columns: Columns = NAMELESS,
    interval_s: float = 0.0,
) -> Prepared:
    """Write the episodes that have a split into a new folder; the same bytes in every folder.

    Raises ValueError where no episode has a split, or where two share source, agent, name and segment.
    """
    chosen = [index for index, split in enumerate(splits) if split is not None]
    if not chosen:
        raise ValueError("no episode to write, expected one or more that have a split")
    order = sorted(chosen, key=lambda index: _rank(episodes[index]))
    records = _Records(episodes, splits, order, np.zeros(len(episodes), np.uint64))
    _require_distinct(records)
    (folder / EPISODES).mkdir(parents=True, exist_ok=True)
    shards = dict[str, str]()
    if form == "lmdb":
        observed_first = sorted(chosen, key=lambda index: episodes[index].source == "dream")
        records.shards.update(write_shards(folder / EPISODES, records.files(observed_first, action_space)))
        shards = {name: sha256(folder / EPISODES / name) for name in set(records.shards.values())}
    else:
        for _, file, content in records.files(order, action_space):
            (folder / EPISODES / file).write_bytes(content)
    table = episodes[chosen[0]].table()
    prepared = Prepared(
        folder=folder,
        count=len(chosen),
        action_space=action_space,
        feature_count=table.features.shape[1],
        has_rewards=table.rewards is not None,
        columns=columns,
        context_count=0 if table.context is None else table.context.shape[1],
        interval_s=interval_s,
        missing=bool(records.missing),
        wide=table.features.dtype == np.float64,
        shards=shards,
    )
    write_manifest(folder / MANIFEST, records, prepared)
    return prepared


@dataclass(frozen=True)
class _Records:
    """Records of the episodes that have a split, in canonical order; each is made when its turn comes."""

    episodes: Sequence[EpisodeView]
    splits: Sequence[Split | None]
    order: Sequence[int]
    digests: NDArray[np.uint64]  # by episode; `files` fills them in
    missing: set[int] = field(default_factory=set)  # episodes that miss a reading; `files` finds them
    shards: dict[str, str] = field(default_factory=dict)  # by file

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
                truncated=episode.truncated,
                sha256=f"{self.digests[index]:016x}",
                provenance=episode.provenance,
                shard=self.shards.get(file, ""),
            )

    def files(self, order: Sequence[int], action_space: ActionSpace) -> Iterator[Item]:
        """Source, file name and content of each episode."""
        for index in tqdm(order, desc="episodes", unit="episode", disable=None):
            episode = self.episodes[index]
            table = episode.table()
            if not is_finite(table.features):
                self.missing.add(index)
            arrays = table._replace(actions=action_space.encode(table.actions))._asdict()
            content = npz_bytes({name: array for name, array in arrays.items() if array is not None})
            self.digests[index] = int(_digest(content), 16)
            yield episode.source, _file_of(episode), content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:SHORT]


def _rank(episode: EpisodeView) -> tuple[bool, str, str, int]:
    """The canonical order: observed ones first, by agent, name and segment."""
    return episode.source == "dream", episode.agent_id, episode.name, episode.segment


def _file_of(episode: EpisodeView) -> str:
    identity = canonical([episode.source, episode.identity, episode.segment])
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"


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
    path = folder / MANIFEST
    require_file(path, REMEDY)
    with _naming(path):
        head = checked(Head, read_listing(path, EPISODES)[0])
        count = sum(each["episodes"] for each in head.counts["source"].values())
    facts = {key.name: getattr(head, key.name) for key in fields(DataSet)}
    prepared = Prepared(folder=folder, count=count, **facts)
    _require_files(prepared)
    return prepared


def _read_records(folder: Path, as_record: Callable[[dict[str, Any]], Record]) -> Iterator[Record]:
    with _naming(folder / MANIFEST):
        yield from map(as_record, read_listing(folder / MANIFEST, EPISODES)[1])


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the manifest."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a manifest of prepared episodes ({str(error)[:200]}); {REMEDY}") from None


def _require_files(prepared: Prepared) -> None:
    records = _read_records(prepared.folder, partial(checked, Record))
    files = dict.fromkeys(record.shard or record.file for record in records)
    missing = [file for file in files if not (prepared.folder / EPISODES / file).is_file()]
    if missing:
        raise ValueError(
            f"{prepared.folder / EPISODES}: {len(missing)} of {len(files)} files that {MANIFEST} lists are missing, "
            f"{missing[0]} first; {REMEDY}"
        )
