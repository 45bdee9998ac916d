"""Prepared episodes on disk: manifest.json and one NPZ for each episode.

The manifest is written last, so that a folder without one is unfinished.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.frame import Float32
from worldmodel.data.schema import ActionSpace, Episode, Source, Split, canonical, identity_of
from worldmodel.runtime.atomic import replacing

MANIFEST = "manifest.json"
HEADERS = 4096  # bytes, more than the headers of an episode's arrays have
FILE_NAME = re.compile(r"[0-9a-f]{16}\.npz")


@dataclass(frozen=True)
class Arrays:
    """What one episode's file holds; what actions[t], taken in state features[t], does shows in features[t+1]."""

    timestamps: NDArray[np.float64]  # [T] seconds
    features: Float32  # [T, F] raw units
    actions: Float32 | None  # [T, A] raw units or one-hot
    rewards: Float32 | None  # [T]
    confidence: Float32 | None  # [T] 0..1, dreams that state it


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

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.file):
            raise ValueError(f"file is {self.file!r}, expected 16 hex digits and .npz")

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)


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
        path = self.folder / "episodes" / record.file
        t, f, a = record.frames, self.feature_count, self.action_space.size
        found = _read_npz(path, t * (8 + 4 * (f + a + 2)))
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
    folder: Path, episodes: Sequence[Episode], splits: Sequence[Split | None], action_space: ActionSpace
) -> Prepared:
    """Write the episodes that have a split, in place of what an earlier call wrote; the same bytes in every folder.

    Raises ValueError where no episode has a split, or where two share source, agent, name and segment.
    """
    kept = sorted(
        ((episode, split) for episode, split in zip(episodes, splits, strict=True) if split is not None),
        key=lambda pair: _order(pair[0]),
    )
    records = [_record(episode, split) for episode, split in kept]
    _require_distinct(records)
    _remove_earlier(folder)
    for record, (episode, _) in zip(tqdm(records, desc="episodes", unit="file", disable=None), kept, strict=True):
        np.savez(folder / "episodes" / record.file, **_arrays(episode, action_space))  # type: ignore[arg-type]
    manifest = _manifest(records, kept[0][0], action_space)
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, sort_keys=True, indent=2) + "\n", encoding="utf-8")
    return read_prepared(folder)


def _order(episode: Episode) -> tuple[bool, str, str, int]:
    return (episode.source == "dream", episode.agent_id, episode.name, episode.segment)


def _record(episode: Episode, split: Split) -> Record:
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


def _arrays(episode: Episode, action_space: ActionSpace) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any] | None] = {
        "timestamps": episode.timestamps,
        "features": episode.features,
        "actions": action_space.encode(episode.actions),
        "rewards": episode.rewards,
        "confidence": episode.confidence,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def _manifest(records: Sequence[Record], any_episode: Episode, action_space: ActionSpace) -> dict[str, Any]:
    return {
        "feature_count": any_episode.features.shape[1],
        "action": asdict(action_space),
        "rewards": any_episode.rewards is not None,
        "counts": {
            "agent": count(records, lambda record: record.agent_id),
            "source": count(records, lambda record: record.source),
            "split": count(records, lambda record: record.split),
        },
        "episodes": [
            {key: value for key, value in asdict(record).items() if key != "provenance" or value} for record in records
        ],
    }


def count(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, dict[str, int]]:
    """Episodes and frames for each value of key."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        entry = counts.setdefault(key(record), {"episodes": 0, "frames": 0})
        entry["episodes"] += 1
        entry["frames"] += record.frames
    return counts


def _remove_earlier(folder: Path) -> None:
    """Unlink rather than overwrite: the files may be links into a cache."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in (folder / "episodes").glob("*.npz"):
        path.unlink()
    (folder / "episodes").mkdir(parents=True, exist_ok=True)


def read_prepared(folder: Path) -> Prepared:
    """Open a folder that write_prepared wrote. Raises ValueError that names what is missing or not as it should be."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        prepared = Prepared(
            folder=folder,
            feature_count=found["feature_count"],
            action_space=ActionSpace(**found["action"]),
            has_rewards=found["rewards"],
            records=tuple(Record(**item) for item in found["episodes"]),
        )
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected prepared episodes, run dvc repro prepare") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a manifest of prepared episodes ({error!r}); run dvc repro prepare") from None
    missing = [record.file for record in prepared if not (folder / "episodes" / record.file).is_file()]
    if missing:
        raise ValueError(
            f"{folder / 'episodes'}: {len(missing)} of {len(prepared)} files that {MANIFEST} lists are missing, "
            f"{missing[0]} first; run dvc repro prepare"
        )
    return prepared


def _read_npz(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """The arrays of a file that holds at most so many bytes of them."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            unpacked = sum(member.file_size for member in file.zip.infolist())
            if unpacked > most + HEADERS:
                raise ValueError(f"it unpacks to {unpacked} bytes, expected at most {most + HEADERS}")
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run dvc repro prepare") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path}: not a readable NPZ ({error}); run dvc repro prepare") from None
