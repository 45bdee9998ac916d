"""Packed arrays: episodes end to end in standardized units, stored beside a manifest and read as memory maps."""

import fcntl
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.arrays.batches import Batched, applied
from worldmodel.arrays.scaler import REMEDY, Scaler
from worldmodel.arrays.windows import Labels, Packed
from worldmodel.core.checked import CLOSED, Float, Sha256, Text, Whole, checked
from worldmodel.core.fingerprint import all_sha256
from worldmodel.core.integrity import require_file, require_sha256
from worldmodel.core.listing import read_listing, write_listing
from worldmodel.core.typing import Floats
from worldmodel.episodes.schema import ActionSpace, Kind, Source, Split, origin_of
from worldmodel.episodes.table import Table

MANIFEST = "manifest.json"
OWN = (MANIFEST, "*.npy")  # files of the folder
WRITTEN = 4 << 20  # bytes in one go


Flag = Annotated[bool, Field(strict=True)]


class Label(NamedTuple):
    """One episode in the manifest: its entry in each field of Labels, and its length."""

    agent_id: Text
    name: Text
    split: Split
    source: Source
    origin: Text
    begin: Whole
    frames: Whole
    terminal: Flag = False
    truncated: Flag = False


@checked_dataclass(frozen=True, config=CLOSED)
class Action:
    kind: Kind
    size: Whole
    still: list[Float] = field(default_factory=list)  # Packed.still; none where all are zero


@checked_dataclass(frozen=True, config=CLOSED)
class Digests:
    """sha256 of each array's file."""

    actions: Sha256
    confidence: Sha256
    features: Sha256
    rewards: Sha256 | None = None


@checked_dataclass(frozen=True, config=CLOSED)
class Head:
    """The manifest without its episodes."""

    action: Action
    arrays: Digests
    episodes: tuple[()]
    scales: Sha256
    context: Whole = 0  # how many of the columns of `actions` are context
    interval_s: Float = 0.0
    missing: Flag = False


@dataclass(frozen=True)
class PackedData:
    """What normalize writes."""

    packed: Packed
    action_space: ActionSpace
    digests: dict[str, str]  # sha256 of each array's file
    scales: str  # Scaler.sha256
    context_count: int = 0
    interval_s: float = 0.0  # seconds from frame to frame, the usual ones; 0 where that is unknown

    def require_scales(self, scaler: Scaler, path: Path) -> None:
        """Raises ValueError where the arrays were made with other scales."""
        if scaler.sha256 != self.scales:
            raise ValueError(f"{path}: other scales than those of the packed arrays; run `dvc repro normalize`")


def encoded(table: Table, space: ActionSpace) -> Table:
    """With actions [T, A] as float32, one-hot where they are integers."""
    return table._replace(actions=space.encode(table.actions))


def label_of(episode: Any, split: Split, frames: int) -> Label:
    """Of what describes an episode, in memory or in a manifest."""
    start = episode.provenance.get("start")
    origin, begin = origin_of(episode.agent_id, episode.name, episode.segment, episode.source, start)
    ends = episode.terminal, episode.truncated
    return Label(episode.agent_id, episode.name, split, episode.source, origin, begin, frames, *ends)


def labels_of(episodes: Iterable[Any], splits: Iterable[Split]) -> Labels:
    return _labels_of([label_of(episode, split, 0) for episode, split in zip(episodes, splits, strict=True)])


def _labels_of(labels: Sequence[Label]) -> Labels:
    columns = {name: tuple(getattr(label, name) for label in labels) for name in Label._fields if name != "frames"}
    return Labels(*columns.values())


def pack(tables: Sequence[Table], scaler: Scaler, labels: Labels | None = None) -> Packed:
    """Pack episodes that are in memory, their actions encoded; without labels they count as observed train episodes."""
    count = len(tables)
    labels = labels or _labels_of([Label("", "", "train", "observed", "", 0, 0)] * count)
    parts = [_standardized(table, scaler) for table in tables]
    lengths = np.array([len(table.features) for table in tables], np.int64)
    none = {name: np.empty((0, *shape), np.float32) for name, shape in _shapes(scaler).items()}
    arrays = {name: np.concatenate([empty, *(part[name] for part in parts)]) for name, empty in none.items()}
    return Packed(
        features=arrays["features"],
        actions=arrays["actions"],
        rewards=arrays.get("rewards"),
        confidence=arrays["confidence"],
        lengths=lengths,
        labels=labels,
        context_count=len(scaler.context.center),
        missing=bool(np.isnan(arrays["features"]).any()),
        still=_still(scaler),
    )


def write_packed(
    folder: Path,
    tables: Iterable[Table] | Batched,
    frames: int,
    labels: Iterable[Label],
    space: ActionSpace,
    scaler: Scaler,
    interval_s: float = 0.0,
) -> None:
    """Write into a new folder, the manifest last; `frames` is the length of all episodes together, whose actions are
    encoded. They and their labels are read one at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in _shapes(scaler).items():
        described = {"descr": "<f4", "fortran_order": False, "shape": (frames, *shape)}
        with (folder / f"{name}.npy").open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, described)
            stream.truncate(stream.tell() + 4 * frames * math.prod(shape))
    missing = any(list(applied(tables, partial(_write_rows, folder, frames, scaler))))
    optional = {"context": len(scaler.context.center), "interval_s": interval_s, "missing": missing}
    still, paths = _still(scaler), sorted(folder.glob("*.npy"))
    head = {
        "action": {"kind": space.kind, "size": space.size} | ({} if still is None else {"still": still.tolist()}),
        "arrays": {path.stem: digest for path, digest in zip(paths, all_sha256(paths), strict=True)},
        "scales": scaler.sha256,
    } | {key: value for key, value in optional.items() if value}
    write_listing(folder / MANIFEST, head, "episodes", map(_entry, labels), pad=1)


def _write_rows(folder: Path, frames: int, scaler: Scaler, tables: Iterable[Table], first: int) -> Iterator[bool]:
    """Into files of that many rows, from row `first` on; whether readings are missing, table by table."""
    waiting, size = list[dict[str, Floats]](), 0
    for table in tables:
        waiting.append(_standardized(table, scaler))
        size += sum(array.nbytes for array in waiting[-1].values())
        if size > WRITTEN:
            _put(folder, frames, first, waiting)
            first += sum(len(each["features"]) for each in waiting)
            waiting, size = [], 0
        yield bool(np.isnan(table.features).any())
    if waiting:
        _put(folder, frames, first, waiting)


def _put(folder: Path, frames: int, first: int, parts: Sequence[dict[str, Floats]]) -> None:
    """The lock is for machines that share a file system: what they write to one page of a file is not lost by it."""
    for name in parts[0]:
        rows = np.concatenate([part[name] for part in parts])
        if not rows.size:
            continue
        with (folder / f"{name}.npy").open("r+b") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX)
            stream.seek(-4 * (frames - first) * math.prod(rows.shape[1:]), os.SEEK_END)
            stream.write(rows.data.cast("B"))


def _entry(label: Label) -> dict[str, Any]:
    return {key: value for key, value in label._asdict().items() if value or key not in ("terminal", "truncated")}


def read_packed(folder: Path) -> PackedData:
    """Map the arrays into memory. Raises ValueError, naming the file, where one is not what normalize wrote."""
    path = folder / MANIFEST
    require_file(path, REMEDY)
    try:
        body, episodes = read_listing(path, "episodes")
        head = checked(Head, body)
        rows = [Label._make(map(_shared, checked(Label, episode))) for episode in episodes]
        if not rows:
            raise ValueError("episodes: none")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a manifest of packed episodes ({error}); {REMEDY}") from None
    digests = {name: digest for name, digest in vars(head.arrays).items() if digest is not None}
    arrays = {name: _mapped(folder / f"{name}.npy", digest) for name, digest in digests.items()}
    lengths = np.array([row.frames for row in rows], np.int64)
    _require_shapes(folder, arrays, int(lengths.sum()), head.action.size + head.context)
    still = np.array(head.action.still, np.float32)
    if len(still) not in (0, arrays["actions"].shape[1]):
        raise ValueError(f"{path}: action.still holds {len(still)} numbers, not one a column of actions; {REMEDY}")
    packed = Packed(
        features=arrays["features"],
        actions=arrays["actions"],
        rewards=arrays.get("rewards"),
        confidence=arrays["confidence"],
        lengths=lengths,
        labels=_labels_of(rows),
        context_count=head.context,
        missing=head.missing,
        still=still if len(still) else None,
    )
    space = ActionSpace(head.action.kind, head.action.size)
    return PackedData(packed, space, digests, head.scales, head.context, head.interval_s)


def _mapped(path: Path, digest: str) -> Floats:
    require_sha256(path, digest, REMEDY)
    try:
        array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not an array ({error}); {REMEDY}") from None
    return array


def _require_shapes(folder: Path, arrays: dict[str, Floats], frames: int, inputs: int) -> None:
    """`inputs`: actions and context, which may have more columns, as angles do."""
    for name, array in arrays.items():
        width = array.shape[-1] if array.ndim == 2 else 1
        tails = {"features": (width,), "actions": (max(width, inputs) if inputs else 0,)}
        found, expected = (array.dtype.str, array.shape), ("<f4", (frames, *tails.get(name, ())))
        if found != expected:
            raise ValueError(f"{folder / name}.npy: holds {found}, {MANIFEST} says {expected}; {REMEDY}")


def _still(scaler: Scaler) -> Floats | None:
    """Of Packed."""
    taken = scaler.actions.transform(np.zeros(scaler.actions.width, np.float32))
    return np.append(taken, np.zeros(len(scaler.context.center), np.float32)) if taken.any() else None


def _shapes(scaler: Scaler) -> dict[str, tuple[int, ...]]:
    """Shape of one frame in each array."""
    rewards: dict[str, tuple[int, ...]] = {} if scaler.rewards is None else {"rewards": ()}
    return {
        "features": scaler.features.center.shape,
        "actions": (len(scaler.actions.center) + len(scaler.context.center),),
        "confidence": (),
        **rewards,
    }


def _standardized(table: Table, scaler: Scaler) -> dict[str, Floats]:
    """One episode's rows of each array."""
    inputs = [
        affine.transform(array.astype(np.float32, copy=False))
        for affine, array in ((scaler.actions, table.actions), (scaler.context, table.context))
        if array is not None
    ]
    none = np.empty((len(table.features), 0), np.float32)
    arrays = {
        "features": scaler.features.transform(table.features),
        "actions": np.concatenate([none, *inputs], axis=1),
        "confidence": np.ones(len(table.features), np.float32) if table.confidence is None else table.confidence,
    }
    if scaler.rewards is not None:
        assert table.rewards is not None
        arrays["rewards"] = scaler.rewards.transform(table.rewards[:, None])[:, 0]
    return arrays


def _shared(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value
