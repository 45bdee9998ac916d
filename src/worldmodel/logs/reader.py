"""Logs -> episodes. Each refused row is named by file, line and reason.

Blocks of lines are parsed (parsing.py), and their rows are checked and grouped into episodes (grouping.py). No
transition crosses a refused row.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, Literal, NamedTuple

import numpy as np

from worldmodel.core.jobs import on_cluster, run_all, workers
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.episodes.temporary_store import EpisodeStore, View
from worldmodel.logs.blocks import read_blocks
from worldmodel.logs.copies import find_logs
from worldmodel.logs.files import Location, LogFile, on_disk
from worldmodel.logs.frame_batch import FrameBatch
from worldmodel.logs.grouping import EpisodeAssembler, missing_reason
from worldmodel.logs.line_reader import parse_block
from worldmodel.logs.parsing import PARALLEL_BYTES, ParsedBlock, parse_all
from worldmodel.logs.rejects import Reject
from worldmodel.logs.rollouts import distinct, told_apart
from worldmodel.logs.rows import HOPELESS, Row, is_hopeless
from worldmodel.logs.signature import Signature, conforming

Missing = Literal["refuse", "mask"]
Beside = Callable[[int], AbstractContextManager[EpisodeStore]]  # that store of several, for another process


class Observer:
    """Is told what is read."""

    def begin(self) -> None:
        """Before each reading of all files."""

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
    context_count: int
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
    beside: Beside | None = None,
) -> Logs[View]:
    """As read_logs, but with what `keep` returns for each episode, if anything: memory need not hold their arrays.

    `missing`: whether a row that lacks a reading is refused or kept with NaN. The files are read a second time, and
    `keep` gets every episode again, where the first rows turn out to be unlike most others. With `beside`, whose stores
    take the place of `keep`, several files are read at once, and nobody observes.
    """
    files = find_logs(folders)
    how = max_gap_s, keep, missing == "mask", observer or Observer(), beside
    result = _Pass(*how).over(files)
    if not result.rows:
        raise ValueError(f"{', '.join(map(str, folders))}: {len(files)} log files without a single row; add frames")
    signature = result.common()
    if result.signature not in (None, signature):
        result = _Pass(*how, signature).over(files)
    return Logs(
        episodes=tuple(distinct(told_apart(result.episodes, result.of_file, max_gap_s))),
        rejects=tuple(result.rejects),
        rows=result.rows,
        action_space=ActionSpace(signature.kind, result.actions if signature.kind == "discrete" else signature.action),
        feature_count=signature.features,
        context_count=signature.context,
        files=tuple(files),
        named=result.named,
    )


@dataclass
class _Pass(Generic[View]):
    """One reading of all files; rows that deviate from the signature are refused."""

    max_gap_s: float
    keep: Callable[[Episode], View | None]
    mask: bool
    observer: Observer
    beside: Beside | None = None
    signature: Signature | None = None  # unless given, the most frequent one of the first lines that hold frames
    votes: dict[bool, Counter[Signature]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    rows: int = 0
    actions: int = 0  # one more than the largest discrete one
    episodes: list[View] = field(default_factory=list)
    of_file: list[int] = field(default_factory=list)  # of each episode a number, the same for all of a file
    rejects: list[Reject] = field(default_factory=list)
    named: dict[str, Columns] = field(default_factory=dict)

    def over(self, files: Sequence[LogFile]) -> "_Pass[View]":
        self.observer.begin()
        with _progress(sum(file.size for file in files)) as bar:
            if self.beside and _side_by_side(files):
                self._merge(files, self.beside, bar)
            else:
                self.read(files, bar)
        return self

    def read(self, files: Sequence[LogFile], bar: Any) -> None:
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

    def _merge(self, files: Sequence[LogFile], beside: Beside, bar: Any) -> None:
        """What `read` finds, each file read by another process."""
        self.signature = self.signature or _first_signature(files)
        calls = [
            (beside, number, file, self.max_gap_s, self.mask, self.signature)
            for number, file in enumerate(files, start=1)
        ]
        for file, found in zip(files, run_all(_read_alone, calls), strict=True):
            for dream, votes in found.votes.items():
                self.votes[dream].update(votes)
            self.rows, self.actions = self.rows + found.rows, max(self.actions, found.actions)
            self.episodes += found.episodes
            self.rejects += found.rejects
            self.named |= found.named
            self._end_file()
            bar.update(file.size)

    def _end_file(self) -> None:
        self.of_file += [len(self.of_file)] * (len(self.episodes) - len(self.of_file))

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

    def _read_lines(self, name: str, blocks: Iterable[ParsedBlock], bar: Any) -> bool:
        """Whether the rest of the file is worth reading."""
        assembler, earlier, hopeless = EpisodeAssembler(self.max_gap_s, self.mask), self.rows, False
        episodes, begins = list[View](), array("q")  # position and line of each one's first frame
        for block in blocks:
            for rows in block.parsed.rows:
                self._add(assembler, rows)
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
            assembler.add(row if self.signature is None else conforming(row, self.signature))

    def common(self) -> Signature:
        """The most frequent signature of observed frames, or of dreams where none is observed; the first of equals."""
        votes = self.votes[False] or self.votes[True]
        return votes.most_common(1)[0][0] if votes else Signature(0, "none", 0, False)


class _Found(NamedTuple):
    """In one file; the fields of a _Pass."""

    votes: dict[bool, Counter[Signature]]
    rows: int
    actions: int
    episodes: list[Any]
    rejects: list[Reject]
    named: dict[str, Columns]


def _read_alone(
    beside: Beside, number: int, file: LogFile, max_gap_s: float, mask: bool, signature: Signature | None
) -> _Found:
    with beside(number) as store, _progress(file.size, disable=True) as bar:
        one = _Pass(max_gap_s, store.add, mask, Observer(), signature=signature)
        one.read([file], bar)
        store.flush()
    return _Found(**{name: getattr(one, name) for name in _Found._fields})


def _side_by_side(files: Sequence[LogFile]) -> bool:
    """Whether several processes read a file each: not where one file has most of the bytes, whose blocks then are."""
    sizes, count = [file.size for file in files], workers()
    return count > 1 and sum(sizes) >= PARALLEL_BYTES and (on_cluster() or max(sizes) * count <= sum(sizes))


def _first_signature(files: Sequence[LogFile]) -> Signature | None:
    """What the first frames of all are, by which a reader of one file after the other judges the rest."""
    for votes in (votes for file in files for votes in _first_votes(file)):
        for dream in (False, True):
            if of_kind := Counter({signature: count for kind, signature, count in votes if kind == dream}):
                return of_kind.most_common(1)[0][0]
    return None


def _first_votes(file: LogFile) -> Iterator[list[tuple[bool, Signature, int]]]:
    """Of its rows in order, as they were decoded together."""
    if not file.source or file.read_error:
        yield from (list(_votes(rows)) for block in read_blocks(file) for rows in parse_block(block).rows)
        return
    from worldmodel.readers.source import source_at

    with suppress(ValueError), on_disk(file) as path:
        yield from ([(False, Signature.of_table(episode.table()), episode.length)] for episode in source_at(path))


def _votes(rows: FrameBatch | Row) -> Iterator[tuple[bool, Signature, int]]:
    """Whether dreamed, signature, number of frames."""
    if isinstance(rows, FrameBatch):
        dreams = np.array([label.source == "dream" for label in rows.labels.values])[rows.labels.codes]
        for dream in np.unique(dreams).tolist():
            yield dream, rows.signature, int((dreams == dream).sum())
    elif rows.frame is not None:
        yield rows.meta.get("source") == "dream", Signature.of(rows.frame), 1


def _progress(total: int, disable: bool | None = None) -> Any:
    from tqdm import tqdm  # takes a moment to load

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # without a thread beside it, so that this process may be copied

    return Bar(total=total, desc="logs", unit="B", unit_scale=True, disable=disable)
