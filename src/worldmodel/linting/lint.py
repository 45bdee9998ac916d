"""All remarks on logs, and what is gathered for them while the logs are read: each episode is looked at once."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from threadpoolctl import threadpool_limits

from worldmodel.core.regular import walk
from worldmodel.core.text import escaped
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.schema import Episode
from worldmodel.linting import clock, content, motion, values
from worldmodel.linting.batch import NUMBERS, Batch, Placed
from worldmodel.linting.facts import Facts
from worldmodel.linting.jumps import Jumps
from worldmodel.linting.ranges import Wraps
from worldmodel.linting.remark import Remark
from worldmodel.linting.remarks import Check, Limits, LintedLogs
from worldmodel.linting.repeats import Repeats
from worldmodel.linting.sample import Sampler
from worldmodel.logs.cutting import pieces
from worldmodel.logs.files import Location, LogFile
from worldmodel.logs.reader import Observer
from worldmodel.readers.source import PARTS

CHECKS: tuple[Check, ...] = (
    clock.time_unit,
    content.no_windows,
    content.few_episodes,
    content.unused_meta,
    clock.interleaved,
    clock.out_of_order,
    clock.same_name,
    clock.duplicate_frames,
    clock.gaps,
    motion.teleport,
    motion.action_shift,
    content.action_kind,
    values.sentinel,
    values.saturated,
    values.constant,
    values.float32_loss,
    values.angle,
)
NO_LOGS = (".gitignore", ".gitkeep", ".DS_Store", "LICENSE", "README")
NO_LOG_SUFFIXES = (".md", ".dvc", ".yaml", ".yml", ".txt")


@dataclass
class Collector(Observer):
    """Observes a reading of logs."""

    limits: Limits
    columns: Columns
    stream: BinaryIO  # of an empty file for what memory need not hold

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.facts = {source: Facts() for source in ("observed", "dream")}
        self.waiting = {source: Batch([], []) for source in self.facts}  # until they are enough
        self.numbers = Counter[str]()  # that wait
        self.meta_keys = dict[str, tuple[str, int, int]]()
        self.sampler, self.wraps = Sampler(), Wraps()
        self.jumps, self.repeats = Jumps(self.sampler), Repeats(self.stream)

    def named(self, columns: Columns) -> None:
        """Counts where features.yaml says nothing."""
        self.columns = Columns(**{part: getattr(self.columns, part) or getattr(columns, part) for part in PARTS})

    def meta(self, file: str, keys: Mapping[str, tuple[int, int]]) -> None:
        for key, (line, count) in keys.items():
            first, number, before = self.meta_keys.get(key, (file, line, 0))
            self.meta_keys[key] = first, number, before + count

    def episode(self, file: str, line: int, episode: Episode, returns: int) -> None:
        for piece in self._pieces(episode):
            waiting = self.waiting[piece.source]
            agent, span = sys.intern(piece.agent_id), (piece.begin, piece.end)
            waiting.placed.append(Placed(file, line, agent, piece.name, *span, piece.length, piece.segment, returns))
            waiting.tables.append(piece.table())
            self.numbers[piece.source] += piece.features.size
            self.facts[piece.source].kinds.update(
                terminal=piece.terminal, truncated=piece.truncated, piece=piece.segment > 0
            )
            if self.numbers[piece.source] >= NUMBERS:
                self._look(piece.source)

    def _pieces(self, episode: Episode) -> Sequence[Episode]:
        """As prepare cuts it; most are too short for that."""
        intake, lasts = self.limits.intake, episode.end - episode.begin
        if intake.resample_s is None and lasts <= min(intake.max_gap_s, intake.max_length_s or np.inf):
            return [episode]
        return pieces([episode], intake, self.columns, lambda each: each)

    def _look(self, source: str) -> None:
        batch, facts = self.waiting[source], self.facts[source]
        self.waiting[source], self.numbers[source] = Batch([], []), 0
        facts.add(batch)
        if source == "observed":
            self.sampler.add(batch)
            self.wraps.add(batch, facts.ranges["feature"])
            self.repeats.add(batch)
            self.jumps.add(batch)

    def end(self) -> None:
        """Once all is read."""
        for source, waiting in self.waiting.items():
            if waiting.placed:
                self._look(source)
        self.jumps.look()

    def remarks(self, columns: Columns, unread: Sequence[str]) -> list[Remark]:
        """In the order of CHECKS; one of each kind, of `unused-meta` one for each key. `columns` fit the frames."""
        found = list[Remark]()
        if self.facts["observed"].placed:
            logs = LintedLogs(
                self.facts["observed"], self.sampler.sample(), self.wraps, self.jumps, self.repeats, self.limits,
                self.meta_keys, columns,
            )  # fmt: skip
            with threadpool_limits(1):  # products of small matrices, which threads only slow down
                found = [remark for check in CHECKS for remark in check(logs)]
        return found + ([_unread(unread)] if unread else [])


def _unread(files: Sequence[str]) -> Remark:
    shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
    return Remark(
        "unread-files",
        f"{len(files)} files are not read: {shown}; a log ends in .jsonl, .jsonl.gz or .jsonl.zst; of other formats, "
        "`worldmodel convert` says what a file needs, or writes a log",
        len(files),
        files[0],
    )


def unread_files(folder: Location, files: Iterable[LogFile]) -> list[str]:
    """Files below the folder that no reader takes, by their path in there; what surely is no log aside."""
    if isinstance(folder, str) or not folder.is_dir():
        return []
    read = {str(file.path) for file in files}
    folders = tuple(f"{file.path}{os.sep}" for file in files if file.source)
    found = [parent / name for parent, _, names in walk(folder) for name in names]
    found = [path for path in found if not str(path).startswith(folders)]
    return sorted(
        escaped(path.relative_to(folder).as_posix())
        for path in found
        if str(path) not in read and path.name not in NO_LOGS and path.suffix not in NO_LOG_SUFFIXES
    )
