"""Packed arrays: episodes end to end in standardized units, stored beside a manifest and read as memory maps."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as checked_dataclass

from worldmodel.arrays.scaler import REMEDY, Sample, Scaler
from worldmodel.arrays.windows import Labels, Packed
from worldmodel.core.checked import CLOSED, Sha256, Text, Whole, checked
from worldmodel.core.fingerprint import sha256
from worldmodel.core.integrity import require_file, require_sha256
from worldmodel.core.listing import read_listing, write_listing
from worldmodel.core.typing import Floats
from worldmodel.episodes.schema import ActionSpace, EpisodeInfo, Kind, Source, Split, origin_of

MANIFEST = "manifest.json"
OWN = (MANIFEST, "*.npy")  # files of the folder


class Label(NamedTuple):
    """One episode in the manifest: its entry in each field of Labels, and its length."""

    agent_id: Text
    name: Text
    split: Split
    source: Source
    origin: Text
    begin: Whole
    frames: Whole


@checked_dataclass(frozen=True, config=CLOSED)
class Action:
    kind: Kind
    size: Whole


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


@dataclass(frozen=True)
class PackedData:
    """What normalize writes."""

    packed: Packed
    action_space: ActionSpace
    digests: dict[str, str]  # sha256 of each array's file
    scales: str  # Scaler.sha256

    def require_scales(self, scaler: Scaler, path: Path) -> None:
        """Raises ValueError where the arrays were made with other scales."""
        if scaler.sha256 != self.scales:
            raise ValueError(f"{path}: other scales than those of the packed arrays; run `dvc repro normalize`")


def sample_of(
    features: Floats, actions: Floats | None, rewards: Floats | None = None, confidence: Floats | None = None
) -> Sample:
    """One episode for the scaler and the arrays; without actions they are [T, 0]."""
    if actions is None:
        actions = np.empty((len(features), 0), np.float32)
    return Sample(features, actions, rewards, confidence)


def label_of(episode: EpisodeInfo, split: Split, frames: int) -> Label:
    start = episode.provenance.get("start")
    origin, begin = origin_of(episode.agent_id, episode.name, episode.segment, episode.source, start)
    return Label(episode.agent_id, episode.name, split, episode.source, origin, begin, frames)


def labels_of(episodes: Iterable[EpisodeInfo], splits: Iterable[Split]) -> Labels:
    labels = [label_of(episode, split, 0) for episode, split in zip(episodes, splits, strict=True)]
    *columns, _ = zip(*labels, strict=True) if labels else [()] * len(Label._fields)
    return Labels(*columns)


def pack(samples: Sequence[Sample], scaler: Scaler, labels: Labels | None = None) -> Packed:
    """Pack episodes that are in memory; without labels they count as observed train episodes."""
    count = len(samples)
    blank = ("",) * count
    labels = labels or Labels(blank, blank, ("train",) * count, ("observed",) * count, blank, (0,) * count)
    parts = [_standardized(sample, scaler) for sample in samples]
    lengths = np.array([len(sample.features) for sample in samples], np.int64)
    none = {name: np.empty((0, *shape), np.float32) for name, shape in _shapes(scaler).items()}
    arrays = {name: np.concatenate([empty, *(part[name] for part in parts)]) for name, empty in none.items()}
    return Packed(arrays["features"], arrays["actions"], arrays.get("rewards"), arrays["confidence"], lengths, labels)


def write_packed(
    folder: Path, samples: Iterable[Sample], frames: int, labels: Iterable[Label], space: ActionSpace, scaler: Scaler
) -> None:
    """Write into a new folder, the manifest last; `frames` is the length of all samples together.

    Samples and labels are read one at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = _shapes(scaler)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.npy").open("wb")) for name in shapes}
        for name, shape in shapes.items():
            described = {"descr": "<f4", "fortran_order": False, "shape": (frames, *shape)}
            np.lib.format.write_array_header_1_0(files[name], described)
        for sample in samples:
            for name, array in _standardized(sample, scaler).items():
                files[name].write(array.tobytes())
    head = {
        "action": {"kind": space.kind, "size": space.size},
        "arrays": {path.stem: sha256(path) for path in sorted(folder.glob("*.npy"))},
        "scales": scaler.sha256,
    }
    write_listing(folder / MANIFEST, head, "episodes", (label._asdict() for label in labels), pad=1)


def read_packed(folder: Path) -> PackedData:
    """Map the arrays into memory. Raises ValueError, naming the file, where one is not what normalize wrote."""
    path = folder / MANIFEST
    require_file(path, REMEDY)
    try:
        body, episodes = read_listing(path, "episodes")
        head = checked(Head, body)
        labels, lengths = _labels(episodes)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a manifest of packed episodes ({error}); {REMEDY}") from None
    digests = {name: digest for name, digest in vars(head.arrays).items() if digest is not None}
    arrays = {name: _mapped(folder / f"{name}.npy", digest) for name, digest in digests.items()}
    _require_shapes(folder, arrays, int(lengths.sum()), head.action.size)
    packed = Packed(
        features=arrays["features"],
        actions=arrays["actions"],
        rewards=arrays.get("rewards"),
        confidence=arrays["confidence"],
        lengths=lengths,
        labels=labels,
    )
    return PackedData(packed, ActionSpace(head.action.kind, head.action.size), digests, head.scales)


def _mapped(path: Path, digest: str) -> Floats:
    require_sha256(path, digest, REMEDY)
    try:
        array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not an array ({error}); {REMEDY}") from None
    return array


def _require_shapes(folder: Path, arrays: dict[str, Floats], frames: int, actions: int) -> None:
    width = arrays["features"].shape[-1] if arrays["features"].ndim == 2 else 1
    tails = {"features": (width,), "actions": (actions,)}
    for name, array in arrays.items():
        found, expected = (array.dtype.str, array.shape), ("<f4", (frames, *tails.get(name, ())))
        if found != expected:
            raise ValueError(f"{folder / name}.npy: holds {found}, {MANIFEST} says {expected}; {REMEDY}")


def _shapes(scaler: Scaler) -> dict[str, tuple[int, ...]]:
    """Shape of one frame in each array."""
    rewards: dict[str, tuple[int, ...]] = {} if scaler.rewards is None else {"rewards": ()}
    return {
        "features": scaler.features.center.shape,
        "actions": scaler.actions.center.shape,
        "confidence": (),
        **rewards,
    }


def _standardized(sample: Sample, scaler: Scaler) -> dict[str, Floats]:
    """One episode's rows of each array."""
    arrays = {
        "features": scaler.features.transform(sample.features),
        "actions": scaler.actions.transform(sample.actions),
        "confidence": np.ones(len(sample.features), np.float32) if sample.confidence is None else sample.confidence,
    }
    if scaler.rewards is not None:
        assert sample.rewards is not None
        arrays["rewards"] = scaler.rewards.transform(sample.rewards[:, None])[:, 0]
    return arrays


def _labels(episodes: Iterable[dict[str, Any]]) -> tuple[Labels, NDArray[np.int64]]:
    """Labels, and the lengths; equal texts are one object."""
    rows = [tuple(map(_shared, checked(Label, episode))) for episode in episodes]
    if not rows:
        raise ValueError("episodes: none")
    *columns, frames = zip(*rows, strict=True)
    return Labels(*columns), np.array(frames, np.int64)


def _shared(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value
