"""Rows of one file -> episodes: where each begins and ends, and which frame cannot follow the one before."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import META_KEYS, Frame, is_number, wrong
from worldmodel.episodes.schema import Episode, name_of
from worldmodel.episodes.table import Table
from worldmodel.logs.frame_batch import FrameBatch
from worldmodel.logs.rows import Row

FIRST_FRAME_KEYS = {"episode", "episode_segment", "source", "split"}
FRAME_KEYS = META_KEYS - FIRST_FRAME_KEYS  # they describe one frame, not its episode


@dataclass(frozen=True)
class FoundEpisode:
    """An episode, and where its first frame is in its file."""

    line: int
    position: int
    episode: Episode


@dataclass
class EpisodeAssembler:
    """Collects the rows of one file, given in order, and returns each episode once it has ended.

    A refused row cuts its agent's open episode, or every open one where its agent is unknown. The rest becomes another
    segment under the same name, so that no transition crosses the hole.
    """

    max_gap_s: float
    refused: list[Row] = field(default_factory=list)  # sorted by line once the file has ended
    _open: dict[str, "_EpisodeBuilder"] = field(default_factory=dict)  # by agent
    _grown: dict[str, None] = field(default_factory=dict)  # agents whose builder may hold a frame
    _line: "_EpisodeBuilder | None" = None  # of an episode line
    _ended: list[FoundEpisode] = field(default_factory=list)

    def add(self, row: Row) -> bool:
        """Whether the row's frame became part of an episode."""
        if row.agent_id is None:
            self.refused.append(row)
            self._cut_all()
            return False
        builder = self._builder_for(row)
        if builder.last_row:
            builder = self._refuse_last(builder)
        reason = row.reason or builder.refusal(row) or ("" if builder.length else row.unless_last)
        if reason:
            self.refused.append(replace(row, reason=_placed(row, reason)))
            builder = self._rest(builder)
        elif row.frame is not None:
            if row.unless_last:
                builder.last_row, builder.last = row, row.frame.timestamp
            else:
                builder.add(row, row.frame)
            if row.frame.meta.get("terminal") or row.frame.meta.get("truncated"):
                builder = self._rest(builder, ended=True)
        self._keep(row, builder)
        return not reason

    def add_batch(self, batch: FrameBatch) -> None:
        """As adding each row: the first of a run decides whether the others, which can only follow it, are added."""
        for run in _runs(batch, self.max_gap_s):
            for number, index in enumerate(run):
                row = batch.row(int(index))
                if self.add(row) and number + 1 < len(run):
                    self._open[batch.agents[index]].extend(batch, run[number:])
                    break

    def take(self) -> Iterator[FoundEpisode]:
        """The episodes that have ended since the last call."""
        ended, self._ended = self._ended, []
        yield from ended

    def end(self) -> None:
        for builder in (self._line, *self._open.values()):
            self._end(builder)
        self._line, self._open = None, {}
        self.refused.sort(key=lambda row: (row.line, row.position or 0))

    def _builder_for(self, row: Row) -> "_EpisodeBuilder":
        """The open builder that the row may belong to; otherwise a new one, and the one that it replaces ends."""
        if row.position is None:
            builder = self._open.get(str(row.agent_id))
        else:
            builder = self._line if self._line is not None and self._line.number == row.line else None
        if builder is not None and not builder.ends_before(row, self.max_gap_s):
            return builder
        self._end(self._line if row.position is not None else builder)
        return _EpisodeBuilder.beginning(row)

    def _keep(self, row: Row, builder: "_EpisodeBuilder") -> None:
        if row.position is None:
            self._open[str(row.agent_id)] = builder
            self._grown[str(row.agent_id)] = None
        else:
            self._line = builder

    def _rest(self, builder: "_EpisodeBuilder", ended: bool = False) -> "_EpisodeBuilder":
        if not builder.length:
            return builder
        self._end(builder)
        return builder.rest(ended)

    def _cut_all(self) -> None:
        self._open |= {agent: self._rest(self._open[agent]) for agent in self._grown}
        self._grown = {}
        self._line = None if self._line is None else self._rest(self._line)

    def _refuse_last(self, builder: "_EpisodeBuilder") -> "_EpisodeBuilder":
        """Its row without action or reward is not the last one, as another one has come."""
        row, builder.last_row = builder.last_row, None
        assert row is not None
        self.refused.append(replace(row, reason=_placed(row, row.unless_last)))
        return self._rest(builder)

    def _end(self, builder: "_EpisodeBuilder | None") -> None:
        if builder is not None and builder.length:
            self._ended.append(builder.episode())


def _placed(row: Row, reason: str) -> str:
    return reason if row.position is None else f"episode[{row.position}]: {reason}"


def _runs(batch: FrameBatch, max_gap_s: float) -> Iterator[Ints]:
    """Rows of one agent with one label in which no frame but the first can begin an episode or be refused."""
    agents, labels = _numbered(batch.agents), _numbered(batch.labels)
    alone = np.array([label.alone for label in batch.labels])
    named = np.array([label.episode is not None for label in batch.labels])
    order = np.argsort(agents, kind="stable")
    time, row, before = batch.timestamps[order], order[1:], order[:-1]
    with np.errstate(over="ignore"):
        steps = time[1:] - time[:-1]
    follows = (agents[row] == agents[before]) & (labels[row] == labels[before]) & ~alone[row]
    follows &= (steps > 0) & (named[row] | (steps <= max_gap_s))
    bounds = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(order)]
    yield from (order[begin:end] for begin, end in pairwise(bounds))


def _numbered(values: Sequence[Hashable]) -> Ints:
    """Equal numbers for equal values."""
    numbers = {value: number for number, value in enumerate(values)}
    return np.fromiter(map(numbers.__getitem__, values), np.int64, len(values))


@dataclass
class _EpisodeBuilder:
    """Frames so far of one segment, and what the next segment of the same episode inherits."""

    label: dict[str, Any]  # goes into the meta of the first frame
    named: bool  # meta.episode decides where the episode ends
    number: int  # line of its first row
    last: float = math.nan  # seconds, time of the latest good frame
    ended: bool = False  # by a terminal frame
    agent_id: str = ""  # of the first frame
    begin: tuple[int, int] = (0, 0)  # line and position of the first frame
    meta: Mapping[str, Any] | None = None  # of the first frame, with the label
    frames: list[Frame] = field(default_factory=list)  # the latest frames, which are in no table yet
    tables: list[Table] = field(default_factory=list)
    length: int = 0
    last_row: Row | None = None  # a frame without action or reward, which can only be the last one

    @classmethod
    def beginning(cls, row: Row) -> "_EpisodeBuilder":
        label = {key: value for key, value in row.meta.items() if key not in FRAME_KEYS}
        return cls({"episode_segment": 0, **label}, "episode" in row.meta, row.line)

    @property
    def source(self) -> str:
        return str(self.label.get("source", "observed"))

    def rest(self, ended: bool = False) -> "_EpisodeBuilder":
        """The builder of the same episode's next segment."""
        label = self.label | {"episode_segment": self.label["episode_segment"] + 1}
        return _EpisodeBuilder(label, self.named, self.number, self.last, ended)

    def add(self, row: Row, frame: Frame) -> None:
        if self.meta is None:
            meta = {"episode": name_of(frame), "source": "observed", **frame.meta, **self.label}
            self.label = {key: meta[key] for key in {*self.label, "episode", "source"}}
            self.meta, self.agent_id, self.begin = meta, frame.agent_id, (row.line, row.position or 0)
        self.frames.append(frame)
        self.length += 1
        self.last = frame.timestamp

    def extend(self, batch: FrameBatch, indices: Ints) -> None:
        """Add rows that follow in time with the same label; the first of them is the frame that was added last."""
        meta = self.frames.pop().meta
        self._close_table()
        self.tables.append(batch.table(indices, self.source == "dream" and "confidence" in meta))
        self.length += len(indices) - 1
        self.last = float(self.tables[-1].timestamps[-1])

    def episode(self) -> FoundEpisode:
        assert self.meta is not None
        if self.last_row and self.last_row.frame:
            self.add(self.last_row, self._completed(self.last_row.frame))
        last = self.frames[-1] if self.frames else None
        self._close_table()
        ends = {
            key: bool(last and last.meta.get(key)) for key in ("terminal", "truncated")
        }  # extend takes no such frames
        return FoundEpisode(*self.begin, Episode.of(self.agent_id, self.meta, Table.joined(self.tables), **ends))

    def _completed(self, frame: Frame) -> Frame:
        """A last frame with the action before it and no reward: it leads nowhere, so nothing is learned from them."""
        before = self.frames[-1].action if self.frames else None
        if not self.frames and (actions := self.tables[-1].actions) is not None:
            before = int(actions[-1]) if actions.ndim == 1 else actions[-1]
        earned = self.frames[-1].reward if self.frames else self.tables[-1].rewards
        return replace(
            frame,
            action=before if frame.action is None else frame.action,
            reward=0.0 if frame.reward is None and earned is not None else frame.reward,
        )

    def _close_table(self) -> None:
        if self.frames:
            self.tables.append(Table.of(self.frames, self.source == "dream"))
            self.frames = []

    def ends_before(self, row: Row, max_gap_s: float) -> bool:
        """Whether the row belongs to another episode. All frames of an episode line belong to one."""
        meta = row.meta
        if row.position is not None:
            return False
        if "episode_segment" in meta or meta.get("source", self.source) != self.source:
            return True
        if row.frame is None and "episode" not in meta:
            return False
        if self.named or "episode" in meta:
            return not self.named or str(meta.get("episode")) != str(self.label["episode"])
        step = row.frame.timestamp - self.last if row.frame else math.nan
        return self.ended or step < 0 or step > max_gap_s

    def refusal(self, row: Row) -> str:
        """Why the frame cannot follow those before it, or an empty text."""
        meta, frame = row.meta, row.frame
        for key in ("episode", "source"):
            if key in meta and str(meta[key]) != str(self.label.get(key, meta[key])):
                return str(wrong(f"meta.{key}", meta[key], f"{self.label[key]} as in the line's first frame"))
        if frame is not None and frame.timestamp <= self.last:
            return str(wrong("timestamp", frame.timestamp, f"more than {self.last!r}, the time of the frame before"))
        return self._dream_refusal(meta) if "dream" in (self.source, meta.get("source")) else ""

    def _dream_refusal(self, meta: Mapping[str, Any]) -> str:
        split = self.label.get("split", meta.get("split", "train"))
        if not self.length and split != "train":
            return str(wrong("meta.split", split, "train: a dream is never held out"))
        if "confidence" in meta and not is_number(meta["confidence"], 0, 1):
            return str(wrong("meta.confidence", meta["confidence"], "a number from 0 to 1, or no such key"))
        if self.meta is not None and ("confidence" in meta) != ("confidence" in self.meta):
            return "meta.confidence: expected in every frame of a dream, or in none"
        return ""
