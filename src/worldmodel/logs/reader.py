"""Logs -> episodes, and back. Each refused row is named by file, line and reason.

Blocks of lines are parsed (parsing.py), and their rows are checked and grouped into episodes (grouping.py). No
transition crosses a refused row.
"""

import gzip
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Generic, Literal, Never, Protocol

import numpy as np

from worldmodel.core.atomic import replacing
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.frame import Frame
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.episodes.temporary_store import View
from worldmodel.logs.copies import find_logs
from worldmodel.logs.files import Location, LogFile, on_disk
from worldmodel.logs.frame_batch import FrameBatch
from worldmodel.logs.grouping import EpisodeAssembler, missing_reason
from worldmodel.logs.parsing import ParsedBlock, parse_all
from worldmodel.logs.rejects import Reject
from worldmodel.logs.rollouts import distinct, told_apart
from worldmodel.logs.rows import HOPELESS, Row, is_hopeless
from worldmodel.logs.signature import Signature

if TYPE_CHECKING:
    from tqdm import tqdm

Missing = Literal["refuse", "mask"]


class Observer(Protocol):
    """Is told what is read; `begin` comes before each reading of all files."""

    def begin(self) -> None: ...
    def named(self, columns: Columns) -> None:
        """What a file of another format calls its columns, before its first episode."""

    def meta(self, file: str, keys: Mapping[str, tuple[int, int]]) -> None:
        """Keys that are not understood: in which line first, and in how many."""

    def episode(self, file: str, line: int, episode: Episode, returns: int) -> None:
        """`returns`: how many times it goes on behind frames of another one of its agent."""


@dataclass(frozen=True)
class Logs(Generic[View]):
    """The content of log files: each of the `rows` is a frame of an episode or a reject."""

    episodes: tuple[View, ...]
    rejects: tuple[Reject, ...]
    rows: int
    action_space: ActionSpace
    feature_count: int
    has_rewards: bool
    files: tuple[LogFile, ...]
    named: Mapping[str, Columns]  # by file of another format, what it calls its columns


def read_logs(folders: Sequence[Location], max_gap_s: float, missing: Missing = "refuse") -> Logs[Episode]:
    """Every episode in the folders' files, sorted by folder, path and first row.

    Raises ValueError where a folder or its log files are missing, or where they hold no row at all.
    """
    return collect_logs(folders, max_gap_s, lambda episode: episode, missing=missing)


def collect_logs(
    folders: Sequence[Location],
    max_gap_s: float,
    keep: Callable[[Episode], View | None],
    observer: Observer | None = None,
    missing: Missing = "refuse",
) -> Logs[View]:
    """As read_logs, but with what `keep` returns for each episode, if anything: memory need not hold their arrays.

    `missing`: whether a row that lacks a reading is refused or kept with NaN. The files are read a second time, and
    `keep` gets every episode again, where the first rows turn out to be unlike most others.
    """
    files = find_logs(folders)
    result = _Pass(max_gap_s, keep, missing == "mask", observer).over(files)
    if not result.rows:
        raise ValueError(f"{', '.join(map(str, folders))}: {len(files)} log files without a single row; add frames")
    signature = result.common()
    if result.signature not in (None, signature):
        result = _Pass(max_gap_s, keep, missing == "mask", observer, signature).over(files)
    return Logs(
        episodes=tuple(distinct(told_apart(result.episodes, result.of_file, max_gap_s))),
        rejects=tuple(result.rejects),
        rows=result.rows,
        action_space=ActionSpace(signature.kind, result.actions if signature.kind == "discrete" else signature.action),
        feature_count=signature.features,
        has_rewards=signature.reward,
        files=tuple(files),
        named=result.named,
    )


@dataclass
class _Pass(Generic[View]):
    """One reading of all files; rows that deviate from the signature are refused."""

    max_gap_s: float
    keep: Callable[[Episode], View | None]
    mask: bool = False
    observer: Observer | None = None
    signature: Signature | None = None  # unless given, the most frequent one of the first lines that hold frames
    votes: dict[bool, Counter[Signature]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    rows: int = 0
    actions: int = 0  # one more than the largest discrete one
    episodes: list[View] = field(default_factory=list)
    of_file: list[int] = field(default_factory=list)  # number of each episode's file
    rejects: list[Reject] = field(default_factory=list)
    named: dict[str, Columns] = field(default_factory=dict)

    def over(self, files: Sequence[LogFile]) -> "_Pass[View]":
        if self.observer:
            self.observer.begin()
        with _progress(sum(file.size for file in files)) as bar:
            left_out = set[LogFile]()
            for sources, some in groupby(files, key=lambda file: file.source and not file.read_error):
                if sources:
                    for file in some:
                        self._read_source(file)
                        self._end_file()
                        bar.update(file.size)
                    continue
                for file, blocks in groupby(parse_all(list(some), left_out), key=lambda block: block.file):
                    if not self._read_lines(file.name, blocks, bar):
                        left_out.add(file)
                    self._end_file()
        return self

    def _end_file(self) -> None:
        number = self.of_file[-1] + 1 if self.of_file else 0
        self.of_file += [number] * (len(self.episodes) - len(self.of_file))

    def _read_source(self, file: LogFile) -> None:
        """A file of another format. What is wrong with it is one row, behind the frames before it."""
        from worldmodel.readers.source import source_at

        frames, found = 0, ""
        try:
            with on_disk(file) as path:
                found = f"{path}: "
                source = source_at(path)
                for episode in source:
                    if not frames:
                        self.named[file.name] = source.columns
                        if self.observer:
                            self.observer.named(source.columns)
                    own = Signature.of_table(episode.table())
                    self.votes[False][own] += episode.length
                    self.signature = self.signature or self.common()
                    if own == self.signature:
                        self._add_whole(file.name, frames + 1, episode)
                    else:
                        reason = f"episode {episode.name!r}: {own.unlike(self.signature)}"
                        self.rejects.append(Reject(file.name, frames + 1, reason))
                        self.rows += 1
                    frames += episode.length
        except ValueError as error:
            self.rejects.append(Reject(file.name, frames + 1, str(error).removeprefix(found)))
            self.rows += 1

    def _add_whole(self, file: str, line: int, episode: Episode) -> None:
        """An episode whose first frame is that line; frames without a reading are refused, and cut it."""
        self.rows += episode.length
        missing = np.isnan(episode.features).any(axis=1)
        if self.mask or not missing.any():
            self.episodes += self._kept(file, line, episode, 0)
            return
        for row in np.flatnonzero(missing).tolist():
            self.rejects.append(Reject(file, line + row, missing_reason(episode.features[row])))
        kept = np.flatnonzero(~missing)
        for segment, rows in enumerate(np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)):
            if len(rows):
                piece = episode.between(int(rows[0]), int(rows[-1]) + 1).numbered(segment)
                self.episodes += self._kept(file, line + int(rows[0]), piece, 0)

    def _read_lines(self, name: str, blocks: Iterable[ParsedBlock], bar: "tqdm[Never]") -> bool:
        """Whether the rest of the file is worth reading."""
        assembler, earlier, hopeless = EpisodeAssembler(self.max_gap_s, self.mask), self.rows, False
        episodes, begins = list[View](), array("q")  # position and line of each one's first frame
        for block in blocks:
            for rows in block.parsed.rows:
                self._add(assembler, rows)
            if self.observer:
                self.observer.meta(name, block.parsed.meta_keys)
            self._take(name, assembler, episodes, begins)
            bar.update(block.read)
            hopeless = is_hopeless(len(assembler.refused), self.rows - earlier)
            if hopeless:
                self._add(assembler, Row(block.block.first + block.block.lines, HOPELESS))
                break
        assembler.end()
        self._take(name, assembler, episodes, begins)
        self.episodes += [episodes[index] for index in np.lexsort(np.array(begins).reshape(-1, 2).T)]
        self.rejects += [Reject(name, row.line, row.reason) for row in assembler.refused]
        return not hopeless

    def _take(self, file: str, assembler: EpisodeAssembler, episodes: list[View], begins: "array[int]") -> None:
        for found in assembler.take():
            for kept in self._kept(file, found.line, found.episode, found.returns):
                episodes.append(kept)
                begins.extend((found.position, found.line))

    def _kept(self, file: str, line: int, episode: Episode, returns: int) -> list[View]:
        actions = episode.actions
        if actions is not None and actions.ndim == 1:
            self.actions = max(self.actions, 1 + int(actions.max()))
        if self.observer:
            self.observer.episode(file, line, episode, returns)
        kept = self.keep(episode)
        return [] if kept is None else [kept]

    def _add(self, assembler: EpisodeAssembler, rows: FrameBatch | Row) -> None:
        self.rows += len(rows) if isinstance(rows, FrameBatch) else 1
        for dream, signature, count in _votes(rows):
            self.votes[dream][signature] += count
        if self.signature is None and (self.votes[False] or self.votes[True]):
            self.signature = self.common()
        if isinstance(rows, FrameBatch) and rows.signature == self.signature:
            assembler.add_batch(rows)
            return
        for row in map(rows.row, range(len(rows))) if isinstance(rows, FrameBatch) else (rows,):
            assembler.add(row if self.signature is None else _conform(row, self.signature))

    def common(self) -> Signature:
        """The most frequent signature of observed frames, or of dreams where none is observed; the first of equals."""
        votes = self.votes[False] or self.votes[True]
        return votes.most_common(1)[0][0] if votes else Signature(0, "none", 0, False)


def _votes(rows: FrameBatch | Row) -> Iterator[tuple[bool, Signature, int]]:
    """Whether dreamed, signature, number of frames."""
    if isinstance(rows, FrameBatch):
        dreams = np.array([label.source == "dream" for label in rows.labels.values])[rows.labels.codes]
        for dream, count in ((True, int(dreams.sum())), (False, int((~dreams).sum()))):
            if count:
                yield dream, rows.signature, count
    elif rows.frame is not None:
        yield rows.meta.get("source") == "dream", Signature.of(rows.frame), 1


def _conform(row: Row, signature: Signature) -> Row:
    """The row, refused where its frame deviates from the signature; one that only lacks something may be a last one."""
    if row.frame is None or (own := Signature.of(row.frame)) == signature:
        return row
    reason = own.unlike(signature)
    return replace(row, unless_last=reason) if own.only_lacks(signature) else replace(row, reason=reason)


def _progress(total: int) -> "tqdm[Never]":
    from tqdm import tqdm  # takes a moment to load

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # without a thread beside it, so that this process may be copied

    return Bar(total=total, desc="logs", unit="B", unit_scale=True, disable=None)


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
