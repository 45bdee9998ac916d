"""JSONL logs -> episodes, and back. Each refused row is named by file, line and reason.

A file is parsed in chunks (chunks.py), its rows are checked and grouped into episodes (grouping.py). No transition
crosses a refused row.
"""

import gzip
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Generic, Never, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from worldmodel.core.atomic import replacing
from worldmodel.episodes.frame import Frame
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.logs.chunks import FileChunk, ParsedBlock, chunks_of, find_logs, parse_all
from worldmodel.logs.files import Location, LogFile
from worldmodel.logs.frame_batch import FrameBatch, Rows, Signature
from worldmodel.logs.grouping import EpisodeAssembler
from worldmodel.logs.rejects import Reject
from worldmodel.logs.rows import HOPELESS, Row, is_hopeless
from worldmodel.logs.signatures import conform, unlike, votes_of
from worldmodel.readers.source import source_at

View = TypeVar("View", bound=EpisodeView)


class Observer(Protocol):
    """Is told what is read; `begin` comes before each reading of all files."""

    def begin(self) -> None: ...
    def rows(self, file: str, rows: Rows) -> None: ...
    def episode(self, file: str, line: int, episode: EpisodeView) -> None: ...


@dataclass(frozen=True)
class Logs(Generic[View]):
    """The content of log files: each of the `rows` is a frame of an episode or a reject."""

    episodes: tuple[View, ...]
    rejects: tuple[Reject, ...]
    rows: int
    action_space: ActionSpace
    feature_count: int
    has_rewards: bool


def read_logs(folders: Sequence[Location], max_gap_s: float) -> Logs[Episode]:
    """Every episode in the folders' files, sorted by folder, path and first row.

    Raises ValueError where a folder or its log files are missing, or where they hold no row at all.
    """
    return collect_logs(folders, max_gap_s, lambda episode: episode)


def collect_logs(
    folders: Sequence[Location],
    max_gap_s: float,
    keep: Callable[[Episode], View],
    observer: Observer | None = None,
    missing: str = "refuse",
) -> Logs[View]:
    """As read_logs, but with what `keep` returns for each episode, so that memory need not hold their arrays.

    The files are read a second time, and `keep` gets every episode again, where the first rows turn out to be unlike
    most others.
    """
    files = find_logs(folders)
    result = _Pass(max_gap_s, keep, observer).over(files)
    if not result.rows:
        raise ValueError(f"{', '.join(map(str, folders))}: {len(files)} log files without a single row; add frames")
    signature = result.common()
    if result.signature not in (None, signature):
        result = _Pass(max_gap_s, keep, observer, signature).over(files)
    return Logs(
        episodes=tuple(_distinct(result.episodes)),
        rejects=tuple(result.rejects),
        rows=result.rows,
        action_space=ActionSpace(signature.kind, result.actions if signature.kind == "discrete" else signature.action),
        feature_count=signature.features,
        has_rewards=signature.reward,
    )


@dataclass
class _Pass(Generic[View]):
    """One reading of all files; rows that deviate from the signature are refused."""

    max_gap_s: float
    keep: Callable[[Episode], View]
    observer: Observer | None = None
    signature: Signature | None = None  # unless given, the most frequent one of the first lines that hold frames
    votes: dict[bool, Counter[Signature]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    rows: int = 0
    actions: int = 0  # one more than the largest discrete one
    episodes: list[View] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def over(self, files: Sequence[LogFile]) -> "_Pass[View]":
        if self.observer:
            self.observer.begin()
        total = sum(file.size for file in files)
        with tqdm(total=total, desc="logs", unit="B", unit_scale=True, disable=None) as bar:
            left_out = set[LogFile]()
            for sources, some in groupby(files, key=lambda file: file.source and not file.read_error):
                if sources:
                    for file in some:
                        self._read_source(file)
                        bar.update(file.size)
                    continue
                chunks = [chunk for file in some for chunk in chunks_of(file)]
                for _, of_file in groupby(parse_all(chunks, left_out), key=lambda pair: id(pair[0].file)):
                    left_out.update(self._read_file(of_file, bar))
        return self

    def _read_source(self, file: LogFile) -> None:
        """A file of another format. What is wrong with it is one row, behind the frames before it."""
        frames = 0
        try:
            for episode in source_at(Path(file.path)):
                own = Signature.of_episode(episode)
                self.votes[False][own] += episode.length
                self.signature = self.signature or self.common()
                if own == self.signature:
                    self._keep(file.name, frames + 1, episode, self.episodes)
                    self.rows += episode.length
                else:
                    reason = f"episode {episode.name!r}: {unlike(own, self.signature)}"
                    self.rejects.append(Reject(file.name, frames + 1, reason))
                    self.rows += 1
                frames += episode.length
        except ValueError as error:
            self.rejects.append(Reject(file.name, frames + 1, str(error).removeprefix(f"{file.path}: ")))
            self.rows += 1

    def _read_file(
        self, chunks: Iterable[tuple[FileChunk, Iterable[ParsedBlock]]], bar: "tqdm[Never]"
    ) -> Iterable[LogFile]:
        """The file, if the rest of it is not worth reading."""
        assembler, lines, earlier = EpisodeAssembler(self.max_gap_s), 0, self.rows
        hopeless = list[LogFile]()
        episodes, begins = list[View](), array("q")  # position and line of each one's first frame
        for chunk, blocks in chunks:
            name, before = chunk.file.name, lines
            for block in blocks:
                for rows in block.after(before):
                    self._add(assembler, rows)
                    if self.observer:
                        self.observer.rows(name, rows)
                lines += block.lines
                self._take(name, assembler, episodes, begins)
                bar.update(block.read)
                if is_hopeless(len(assembler.refused), self.rows - earlier):
                    self._add(assembler, [Row(lines + 1, HOPELESS)])
                    hopeless = [chunk.file]
                    break
            if hopeless:
                break
        assembler.end()
        self._take(name, assembler, episodes, begins)
        self.episodes += [episodes[index] for index in np.lexsort(np.array(begins).reshape(-1, 2).T)]
        self.rejects += [Reject(name, row.line, row.reason) for row in assembler.refused]
        return hopeless

    def _take(self, file: str, assembler: EpisodeAssembler, episodes: list[View], begins: "array[int]") -> None:
        for found in assembler.take():
            self._keep(file, found.line, found.episode, episodes)
            begins.extend((found.position, found.line))

    def _keep(self, file: str, line: int, episode: Episode, episodes: list[View]) -> None:
        actions = episode.actions
        if actions is not None and actions.ndim == 1:
            self.actions = max(self.actions, 1 + int(actions.max()))
        episodes.append(self.keep(episode))
        if self.observer:
            self.observer.episode(file, line, episodes[-1])

    def _add(self, assembler: EpisodeAssembler, rows: Rows) -> None:
        self.rows += len(rows)
        for dream, signature, count in votes_of(rows):
            self.votes[dream][signature] += count
        if self.signature is None and (self.votes[False] or self.votes[True]):
            self.signature = self.common()
        if isinstance(rows, FrameBatch) and rows.signature == self.signature:
            assembler.add_batch(rows)
            return
        for row in map(rows.row, range(len(rows))) if isinstance(rows, FrameBatch) else rows:
            assembler.add(row if self.signature is None else conform(row, self.signature))

    def common(self) -> Signature:
        """The most frequent signature of observed frames, or of dreams where none is observed; the first of equals."""
        votes = self.votes[False] or self.votes[True]
        return votes.most_common(1)[0][0] if votes else Signature(0, "none", 0, False)


def _distinct(episodes: list[View]) -> list[View]:
    """The same list with (source, identity, segment) made unique: a name that returns gets the next free segment.

    The earliest in time keeps its number, so that the order of files does not matter.
    """
    following: dict[tuple[str, str, int], int] = {}  # a segment that is taken -> one behind it that may be free
    for index in sorted(_of_common_names(episodes), key=lambda index: episodes[index].begin):
        episode, passed = episodes[index], list[tuple[str, str, int]]()
        place = episode.source, episode.identity, episode.segment
        while place in following:
            passed.append(place)
            place = *place[:2], following[place]
        following |= dict.fromkeys([*passed, place], place[2] + 1)
        if passed:
            episodes[index] = episode.numbered(place[2])
    return episodes


def _of_common_names(episodes: Sequence[View]) -> list[int]:
    """Indices of all that share source and identity with another one, and perhaps of a few more with equal hashes."""
    names = ((episode.source, episode.agent_id, episode.name) for episode in episodes)
    hashes = np.fromiter(map(hash, names), np.int64, len(episodes))
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    indices: list[int] = np.flatnonzero(counts[which] > 1).tolist()
    return indices


def write_jsonl(path: Path, episodes: Iterable[Episode]) -> None:
    """Episodes as frame lines that read_logs reads back as equal ones; gzip where the name ends in .gz."""
    with replacing(path) as temporary, temporary.open("wb") as raw, _packed(raw, path.suffix) as stream:
        for episode in episodes:
            stream.write("".join(_line(frame) for frame in episode.to_frames()).encode("ascii"))


def _packed(raw: BinaryIO, suffix: str) -> AbstractContextManager[gzip.GzipFile | BinaryIO]:
    """The stream, or a gzip stream into it without name and time, so that the bytes are always the same."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if suffix == ".gz" else nullcontext(raw)


def _line(frame: Frame) -> str:
    return json.dumps(frame.to_json(), separators=(",", ":"), allow_nan=False) + "\n"
