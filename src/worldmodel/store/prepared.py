"""Prepared episodes on disk: manifest.json, and an NPZ for each episode, in a file of its own or in a shard.

The manifest is written last, so that a folder without one is unfinished.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import starmap
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as checked_dataclass
from tqdm import tqdm

from worldmodel.core.checked import checked
from worldmodel.core.fingerprint import sha256
from worldmodel.core.integrity import SHORT, require_file, require_same
from worldmodel.core.jobs import run_all
from worldmodel.core.listing import read_listing
from worldmodel.episodes.columns import NAMELESS, Columns
from worldmodel.episodes.frame import is_finite
from worldmodel.episodes.schema import ActionSpace, Source, Split, canonical
from worldmodel.episodes.table import Table
from worldmodel.episodes.temporary_store import EpisodeView, StoredEpisode, shapes_of
from worldmodel.store.manifest import MANIFEST, DataSet, Head, Record, write_manifest
from worldmodel.store.npz import npz_bytes, npz_size, read_npz
from worldmodel.store.shards import REMEDY, Item, parted, read_shard, shard_name, write_shard

Format = Literal["npz", "lmdb"]

EPISODES = "episodes"
OWN = (MANIFEST, EPISODES)  # of the folder
BATCH_BYTES = 16 << 20  # of files that are written in one go
PARALLEL_BYTES = 64 << 20  # below it, starting processes costs more than it gains
OF_EPISODE = ("agent_id", "name", "segment", "source", "terminal", "truncated", "provenance")


@checked_dataclass(frozen=True, kw_only=True)
class Prepared(DataSet):
    """A folder of prepared episodes. Iterating reads the records, in canonical order; `load` reads arrays."""

    folder: Path
    count: int

    def __iter__(self) -> Iterator[Record]:
        path = self.folder / MANIFEST
        with _naming(path):
            yield from (checked(Record, item) for item in read_listing(path, EPISODES)[1])

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

    Raises ValueError where no episode has a split.
    """
    chosen = [index for index, split in enumerate(splits) if split is not None]
    if not chosen:
        raise ValueError("no episode to write, expected one or more that have a split")
    order = sorted(chosen, key=lambda index: _rank(episodes[index]))
    records = _Records(episodes, splits, order, np.zeros(len(episodes), np.uint64))
    numbers = np.fromiter((hash(_file_of(episodes[index])) for index in chosen), np.int64)
    assert len(np.unique(numbers)) == len(chosen), "episodes share source, agent, name and segment"
    (folder / EPISODES).mkdir(parents=True, exist_ok=True)
    shards = records.write(folder / EPISODES, form, chosen, action_space)
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
        missing=records.missing,
        wide=table.features.dtype == np.float64,
        shards=shards,
    )
    write_manifest(folder / MANIFEST, records, prepared)
    return prepared


@dataclass
class _Records:
    """Records of the episodes that have a split, in canonical order; each is made when its turn comes."""

    episodes: Sequence[EpisodeView]
    splits: Sequence[Split | None]
    order: Sequence[int]
    digests: NDArray[np.uint64]  # by episode; `write` fills them in
    missing: bool = False  # whether any reading is; `write` finds out
    shards: dict[str, str] = field(default_factory=dict)  # by file

    def __iter__(self) -> Iterator[Record]:
        for index in self.order:
            episode, split = self.episodes[index], self.splits[index]
            assert split is not None
            file = _file_of(episode)
            digest, shard = f"{self.digests[index]:016x}", self.shards.get(file, "")
            same = {key: getattr(episode, key) for key in OF_EPISODE}
            yield Record(file=file, split=split, frames=episode.length, sha256=digest, shard=shard, **same)

    def write(self, folder: Path, form: Format, chosen: Sequence[int], space: ActionSpace) -> dict[str, str]:
        """All files; of shards, in which observed ones come first, name and sha256."""
        parts = list(self._shards(chosen, space) if form == "lmdb" else self._batches(space))
        calls = [(folder, name, [self.episodes[index] for index in part], space) for name, part in parts]
        work: Callable[..., Iterator[_Written]] = run_all if self._worthwhile(space) else starmap
        shards = dict[str, str]()
        with tqdm(total=len(chosen), desc="episodes", unit="episode", disable=None) as bar:
            for (name, part), written in zip(parts, work(_write, calls), strict=True):
                self.digests[part] = written.digests
                self.missing |= written.missing
                if name:
                    shards[name] = written.shard
                    self.shards |= {_file_of(self.episodes[index]): name for index in part}
                bar.update(len(part))
        return shards

    def _batches(self, space: ActionSpace) -> Iterator[tuple[str, Sequence[int]]]:
        begin = size = 0
        for end, index in enumerate(self.order, start=1):
            size += _size(self.episodes[index], space)
            if size > BATCH_BYTES or end == len(self.order):
                yield "", self.order[begin:end]
                begin, size = end, 0

    def _shards(self, chosen: Sequence[int], space: ActionSpace) -> Iterator[tuple[str, Sequence[int]]]:
        """Name and episodes of each, filled in the order of the logs."""
        for kind in get_args(Source):
            own = [index for index in chosen if self.episodes[index].source == kind]
            begin = 0
            for number, count in enumerate(parted(_size(self.episodes[index], space) for index in own)):
                yield shard_name(kind, number), own[begin : begin + count]
                begin += count

    def _worthwhile(self, space: ActionSpace) -> bool:
        """Whether other processes can write them, and starting these takes less than it saves."""
        apart = all(isinstance(each, StoredEpisode) and each.store.path for each in self.episodes)
        return apart and sum(_size(self.episodes[index], space) for index in self.order) > PARALLEL_BYTES


class _Written(NamedTuple):
    digests: list[int]
    missing: bool  # whether any reading is
    shard: str  # its sha256, if it is one


def _write(folder: Path, name: str, episodes: Sequence[EpisodeView], space: ActionSpace) -> _Written:
    """Episodes into the shard of that name, or each into a file of its own where there is none."""
    digests, missing, items = list[int](), False, list[Item]()
    for episode in episodes:
        table = episode.table()
        missing |= not is_finite(table.features)
        arrays = table._replace(actions=space.encode(table.actions))._asdict()
        content = npz_bytes({name: array for name, array in arrays.items() if array is not None})
        digests.append(int(_digest(content), 16))
        if name:
            items.append((_file_of(episode), content))
        else:
            (folder / _file_of(episode)).write_bytes(content)
    if name:
        write_shard(folder / name, items)
    return _Written(digests, missing, sha256(folder / name) if name else "")


def _size(episode: EpisodeView, space: ActionSpace) -> int:
    """Bytes of its NPZ."""
    shapes = episode.shapes if isinstance(episode, StoredEpisode) else shapes_of(episode.table())
    kinds = {name: shape for name, shape in zip(Table._fields, shapes, strict=True) if shape}
    if isinstance(episode, StoredEpisode) and episode.narrow:
        kinds["features"] = "<f4", kinds["features"][1]
    if "actions" in kinds:
        kinds["actions"] = "<f4", (episode.length, space.size)
    return npz_size(kinds)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:SHORT]


def _rank(episode: EpisodeView) -> tuple[bool, str, str, int]:
    """The canonical order: observed ones first, by agent, name and segment."""
    return episode.source == "dream", episode.agent_id, episode.name, episode.segment


def _file_of(episode: EpisodeView) -> str:
    identity = canonical([episode.source, episode.identity, episode.segment])
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"


def read_prepared(folder: Path) -> Prepared:
    """Open a folder that write_prepared wrote. Raises ValueError that names what is missing or not as it should be."""
    path = folder / MANIFEST
    require_file(path, REMEDY)
    with _naming(path):
        head = checked(Head, read_listing(path, EPISODES)[0])
        count = sum(each["episodes"] for each in head.counts["source"].values())
    facts = {key.name: getattr(head, key.name) for key in fields(DataSet)}
    return Prepared(folder=folder, count=count, **facts)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the manifest."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a manifest of prepared episodes ({str(error)[:200]}); {REMEDY}") from None
