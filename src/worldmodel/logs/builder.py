"""An episode while its frames come, and what the rest of it inherits where it is cut."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import META_KEYS, is_number, wrong
from worldmodel.episodes.schema import Episode, Source, Split
from worldmodel.episodes.table import Table
from worldmodel.logs.frame_batch import FrameBatch
from worldmodel.logs.rows import Row

ONE = np.zeros(1, np.int64)


@dataclass(frozen=True)
class FoundEpisode:
    """An episode, and where its first frame is in its file."""

    line: int
    position: int
    episode: Episode
    returns: int  # how many times it goes on behind frames of another one of its agent


def alone(row: Row) -> FrameBatch:
    """One good row; a wrong confidence means nothing where it is no dream."""
    try:
        return FrameBatch.of_rows([row])
    except ValueError:
        known = {key: value for key, value in row.meta.items() if key != "confidence"}
        return FrameBatch.of_rows([replace(row, meta=known)])


def name_in(meta: Mapping[str, Any]) -> str | None:
    return str(meta["episode"]) if "episode" in meta else None


@dataclass
class EpisodeBuilder:
    """Frames so far of one segment, and what the next segment of the same episode inherits."""

    key: str | None  # meta.episode, which decides where the episode ends, unless it is None
    number: int  # line of its first row
    segment: int
    name: str | None
    source: Source | None
    split: Split | None
    free: Mapping[str, Any]
    ordinal: int  # of its agent's frames, the latest here
    line: int  # of that one
    last: float = math.nan  # seconds, time of the latest good frame
    first: float = math.nan  # seconds, of the whole episode
    ended: bool = False  # by a terminal or truncated frame
    agent_id: str = ""
    begin: tuple[int, int] = (0, 0)  # line and position of the first frame
    confident: bool = False  # the first frame states its confidence
    terminal: bool = False
    truncated: bool = False
    tables: list[Table] = field(default_factory=list)
    length: int = 0
    returns: int = 0
    last_row: Row | None = None  # a frame without action or reward, which can only be the last one

    @classmethod
    def beginning(cls, row: Row, ordinal: int) -> "EpisodeBuilder":
        meta, name = row.meta, name_in(row.meta)
        free = {key: value for key, value in meta.items() if key not in META_KEYS}
        segment = meta.get("episode_segment", 0)
        return cls(name, row.line, segment, name, meta.get("source"), meta.get("split"), free, ordinal, row.line)

    def rest(self, ended: bool = False) -> "EpisodeBuilder":
        """The builder of the same episode's next segment."""
        place = self.ordinal, self.line, self.last, self.first, ended
        inherited = self.name, self.source, self.split, self.free, *place
        return EpisodeBuilder(self.key, self.number, self.segment + 1, *inherited)

    def extend(self, batch: FrameBatch, rows: Ints, ordinals: Ints) -> None:
        """Add rows that follow in time with the same label."""
        if not self.length:
            self._begin(batch.head(int(rows[0])))
        self.returns += int(ordinals[0] > self.ordinal + 1 and not self.ended) + int((np.diff(ordinals) > 1).sum())
        table = batch.table.map(lambda column: column[rows])
        stated = self.source == "dream" and self.confident
        self.tables.append(table if stated else table._replace(confidence=None))
        self.length += len(rows)
        self.last, self.ordinal, self.line = float(table.timestamps[-1]), int(ordinals[-1]), int(batch.lines[rows[-1]])
        self.terminal, self.truncated = bool(batch.terminal[rows[-1]]), bool(batch.truncated[rows[-1]])

    def _begin(self, head: Row) -> None:
        free = {key: value for key, value in head.meta.items() if key not in META_KEYS}
        self.name = self.name or f"@{head.time!r}"
        self.source = self.source or head.meta.get("source", "observed")
        self.split = self.split or head.meta.get("split")
        self.free = {**free, **self.free}
        self.agent_id, self.begin = str(head.agent_id), (head.line, head.position or 0)
        self.confident = "confidence" in head.meta
        self.first = head.time if math.isnan(self.first) else self.first

    def episode(self) -> FoundEpisode:
        if self.last_row:
            self.extend(alone(self._completed(self.last_row)), ONE, np.array([self.ordinal]))
        source = self.source or "observed"
        episode = Episode(
            self.agent_id,
            str(self.name),
            **Table.joined(self.tables)._asdict(),
            segment=self.segment,
            source=source,
            split=self.split,
            terminal=self.terminal,
            truncated=self.truncated,
            provenance=self.free if source == "dream" else {},
        )
        return FoundEpisode(*self.begin, episode, self.returns)

    def _completed(self, row: Row) -> Row:
        """A last frame with action and context of the one before, and no reward: nothing is learned from them."""
        frame, before = row.frame, self.tables[-1]
        assert frame is not None
        action = frame.action
        if action is None and before.actions is not None:
            action = before.actions[-1] if before.actions.ndim == 2 else int(before.actions[-1])
        filled = replace(
            frame,
            action=action,
            reward=0.0 if frame.reward is None and before.rewards is not None else frame.reward,
            context=before.context[-1] if frame.context is None and before.context is not None else frame.context,
        )
        return replace(row, frame=filled)

    def ends_before(self, row: Row, max_gap_s: float) -> bool:
        """Whether the row, of the same name, belongs to another episode."""
        source = self.source or "observed"
        if "episode_segment" in row.meta or row.meta.get("source", source) != source:
            return True
        if self.key is not None or (row.frame is None and math.isnan(row.time)):
            return row.time <= self.first < self.last  # the clock begins anew: another rollout of that name
        step = row.time - self.last
        return self.ended or step < 0 or step > max_gap_s

    def refusal(self, row: Row) -> str:
        """Why the frame cannot follow those before it, or an empty text."""
        meta = row.meta
        for key, own in (("episode", self.name), ("source", self.source)):
            if own is not None and key in meta and str(meta[key]) != own:
                return str(wrong(f"meta.{key}", meta[key], f"{own} as in the line's first frame"))
        if row.time <= self.last:
            return str(wrong("timestamp", row.time, f"more than {self.last!r}, the time of the frame before"))
        return self._dream_refusal(meta) if "dream" in (self.source, meta.get("source")) else ""

    def _dream_refusal(self, meta: Mapping[str, Any]) -> str:
        split = self.split or meta.get("split", "train")
        if not self.length and split != "train":
            return str(wrong("meta.split", split, "train: a dream is never held out"))
        if "confidence" in meta and not is_number(meta["confidence"], 0, 1):
            return str(wrong("meta.confidence", meta["confidence"], "a number from 0 to 1, or no such key"))
        if self.length and ("confidence" in meta) != self.confident:
            return "meta.confidence: expected in every frame of a dream, or in none"
        return ""
