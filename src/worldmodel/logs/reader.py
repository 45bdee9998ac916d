"""JSONL logs -> episodes, and back. Whatever is refused is named by file, line and reason.

Each file goes through plain steps: split and parse (reading.py), check, group (grouping.py). No transition crosses a
refused row.
"""

import gzip
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Generic, Never, TypeVar

import numpy as np
from tqdm import tqdm

from worldmodel.core.atomic import replacing
from worldmodel.episodes.frame import Frame
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.logs.chunks import FileChunk, ParsedChunk, find_logs, parse_all, split
from worldmodel.logs.files import Location, LogFile
from worldmodel.logs.frame_batch import FrameBatch, Signature
from worldmodel.logs.grouping import EpisodeAssembler
from worldmodel.logs.rejects import Reject
from worldmodel.logs.rows import Row

View = TypeVar("View", bound=EpisodeView)


@dataclass(frozen=True)
class Logs(Generic[View]):
    """All that was read: each of the `rows` is either a frame of an episode or a reject."""

    episodes: tuple[View, ...]
    rejects: tuple[Reject, ...]
    rows: int
    action_space: ActionSpace
    feature_count: int
    has_rewards: bool


def read_logs(folders: Sequence[Location], max_gap_s: float) -> Logs[Episode]:
    """Every episode in the folders' files, in order of folder, path and first row; frames of both kinds of line.

    Raises ValueError where a folder or its log files are missing, or where they hold no row at all.
    """
    return collect_logs(folders, max_gap_s, lambda episode: episode)


def collect_logs(folders: Sequence[Location], max_gap_s: float, keep: Callable[[Episode], View]) -> Logs[View]:
    """The same, but of each episode only what `keep` makes of it, so that memory need not hold them all.

    What the rows have in common is known at the end: where the first rows are unlike most, all is read once more, and
    `keep` sees every episode again.
    """
    files = find_logs(folders)
    taken = _Pass(max_gap_s, keep).over(files)
    if not taken.rows:
        raise ValueError(f"{', '.join(map(str, folders))}: {len(files)} log files without a single row; add frames")
    signature = taken.common()
    if taken.signature not in (None, signature):
        taken = _Pass(max_gap_s, keep, signature).over(files)
    return Logs(
        episodes=tuple(_distinct(taken.episodes)),
        rejects=tuple(taken.rejects),
        rows=taken.rows,
        action_space=ActionSpace(signature.kind, taken.actions if signature.kind == "discrete" else signature.action),
        feature_count=signature.features,
        has_rewards=signature.reward,
    )


@dataclass
class _Pass(Generic[View]):
    """One reading of all files; rows that deviate from the signature are refused."""

    max_gap_s: float
    keep: Callable[[Episode], View]
    signature: Signature | None = None  # unless given, the most frequent one of the first lines that hold frames
    votes: dict[bool, Counter[Signature]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    rows: int = 0
    actions: int = 0  # one more than the largest discrete one
    episodes: list[View] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def over(self, files: Sequence[LogFile]) -> "_Pass[View]":
        parts = [part for file in files for part in split(file)]
        total = sum(file.size for file in files)
        with tqdm(total=total, desc="logs", unit="B", unit_scale=True, disable=None) as bar:
            tables = zip(parts, parse_all(parts), strict=True)
            for _, of_file in groupby(tables, key=lambda pair: id(pair[0].file)):
                self._read_file(of_file, bar)
        return self

    def _read_file(self, parts: Iterable[tuple[FileChunk, Iterable[ParsedChunk]]], bar: "tqdm[Never]") -> None:
        assembler, lines = EpisodeAssembler(self.max_gap_s), 0
        kept, places = list[View](), array("q")  # line and position of each
        for part, tables in parts:
            name, before = part.file.name, lines
            for parsed in tables:
                for found in parsed.after(before):
                    self._add(assembler, found)
                lines += parsed.lines
                self._take(assembler, kept, places)
                bar.update(parsed.read)
        assembler.end()
        self._take(assembler, kept, places)
        position, line = np.array(places).reshape(-1, 2)[:, ::-1].T
        self.episodes += [kept[index] for index in np.lexsort((position, line))]
        self.rejects += [Reject(name, row.line, row.reason) for row in assembler.refused]

    def _take(self, assembler: EpisodeAssembler, kept: list[View], places: "array[int]") -> None:
        for found in assembler.take():
            actions = found.episode.actions
            if actions is not None and actions.ndim == 1:
                self.actions = max(self.actions, 1 + int(actions.max()))
            kept.append(self.keep(found.episode))
            places.extend((found.line, found.position))

    def _add(self, assembler: EpisodeAssembler, found: FrameBatch | list[Row]) -> None:
        self.rows += len(found)
        for dream, signature, count in votes_of(found):
            self.votes[dream][signature] += count
        if self.signature is None and (self.votes[False] or self.votes[True]):
            self.signature = self.common()
        if isinstance(found, FrameBatch) and found.signature == self.signature:
            assembler.add_batch(found)
            return
        for row in map(found.row, range(len(found))) if isinstance(found, FrameBatch) else found:
            assembler.add(row if self.signature is None else conform(row, self.signature))

    def common(self) -> Signature:
        """The most frequent signature of observed frames, of dreams where none is observed; the first one of equals."""
        votes = self.votes[False] or self.votes[True]
        return votes.most_common(1)[0][0] if votes else Signature(0, "none", 0, False)


def votes_of(found: FrameBatch | list[Row]) -> Iterator[tuple[bool, Signature, int]]:
    """(whether dreamed, signature, how many frames)."""
    if isinstance(found, FrameBatch):
        dreams = sum(label.source == "dream" for label in found.labels)
        counts = {True: dreams, False: len(found) - dreams}
        yield from ((dream, found.signature, count) for dream, count in counts.items() if count)
        return
    for row in found:
        if row.frame is not None:
            yield row.meta.get("source") == "dream", Signature.of(row.frame), 1


def conform(row: Row, signature: Signature) -> Row:
    """The row, refused where its frame deviates from the signature."""
    if row.frame is None or row.reason or Signature.of(row.frame) == signature:
        return row
    found = Signature.of(row.frame)
    said = [
        (f"features: found {found.features} numbers", f"{signature.features}", found.features != signature.features),
        (f"action: found {_action_text(found)}", _action_text(signature), found[1:3] != signature[1:3]),
        (f"reward: found {_reward_text(found)}", _reward_text(signature), found.reward != signature.reward),
    ]
    reason = "; ".join(f"{what}, expected {expected} as in most rows" for what, expected, differs in said if differs)
    return replace(row, reason=reason)


def _action_text(signature: Signature) -> str:
    return {"none": "none", "discrete": "an integer", "continuous": f"{signature.action} numbers"}[signature.kind]


def _reward_text(signature: Signature) -> str:
    return "one" if signature.reward else "none"


def _distinct(episodes: list[View]) -> list[View]:
    """The same list with (source, identity, segment) made unique: a name that returns takes the next free segment.

    Of equals the one that is earliest in time keeps its number, so that the order of files decides nothing else.
    """
    taken: set[tuple[str, str, int]] = set()
    for index in sorted(_of_common_names(episodes), key=lambda index: episodes[index].begin):
        episode, segment = episodes[index], episodes[index].segment
        while (episode.source, episode.identity, segment) in taken:
            segment += 1
        taken.add((episode.source, episode.identity, segment))
        if segment != episode.segment:
            episodes[index] = episode.numbered(segment)
    return episodes


def _of_common_names(episodes: Sequence[View]) -> list[int]:
    """All that share source and identity with another one, and perhaps a few whose hashes are equal by chance."""
    names = ((episode.source, episode.agent_id, episode.name) for episode in episodes)
    hashes = np.fromiter(map(hash, names), np.int64, len(episodes))
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    found: list[int] = np.flatnonzero(counts[which] > 1).tolist()
    return found


def write_jsonl(path: Path, episodes: Iterable[Episode]) -> None:
    """Episodes as frame lines that read_logs turns into equal ones; the same bytes every time, gzip where named .gz."""
    with replacing(path) as temporary, temporary.open("wb") as raw, _packed(raw, path.suffix) as stream:
        for episode in episodes:
            stream.write("".join(_line(frame) for frame in episode.to_frames()).encode("ascii"))


def _packed(raw: BinaryIO, suffix: str) -> AbstractContextManager[gzip.GzipFile | BinaryIO]:
    """The stream itself, or gzip of it without the name and time that a gzip header else holds."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if suffix == ".gz" else nullcontext(raw)


def _line(frame: Frame) -> str:
    return json.dumps(frame.to_json(), separators=(",", ":"), allow_nan=False) + "\n"
