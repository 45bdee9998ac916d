"""Rows of one file -> episodes: where one begins, where a hole cuts it, which frame cannot follow the last one."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from worldmodel.data.frame import META_KEYS, Frame, is_number, wrong
from worldmodel.data.rows import Row
from worldmodel.data.schema import Episode, name_of

FIRST_FRAME_KEYS = {"episode", "episode_segment", "source", "split"}


def group(rows: Iterable[Row], max_gap_s: float) -> tuple[list[Episode], list[Row]]:
    """Episodes in order of their first row, and the refused rows with their reasons.

    A refused row cuts its agent's open episode, and every open one where its agent is unknown: the rest is a new
    segment of the same name, so that no transition crosses the hole. An episode ends with its file.
    """
    open_pieces: dict[object, _Piece] = {}  # by agent, or by line for an episode line
    pieces: list[_Piece] = []
    refused: list[Row] = []
    for row in rows:
        if row.agent_id is None:
            refused.append(row)
            open_pieces = {stream: piece.rest() for stream, piece in open_pieces.items()}
            continue
        stream = row.agent_id if row.position is None else row.line
        piece = open_pieces.get(stream)
        if piece is None or piece.ends_before(row, max_gap_s):
            piece = _Piece.beginning(row)
        reason = row.reason or piece.flaw(row)
        if reason:
            refused.append(replace(row, reason=_placed(row, reason)))
            piece = piece.rest()
        elif row.frame is not None:
            if not piece.frames:
                pieces.append(piece)
            piece.add(row.frame)
            if row.frame.meta.get("terminal"):
                piece = piece.rest(ended=True)
        open_pieces[stream] = piece
    return [Episode.from_frames(piece.frames) for piece in pieces], refused


def _placed(row: Row, reason: str) -> str:
    return reason if row.position is None else f"episode[{row.position}]: {reason}"


@dataclass
class _Piece:
    """Frames gathered so far, and what the next piece of the same episode inherits."""

    label: dict[str, Any]  # meta that the first frame gets
    named: bool  # whether meta.episode says where the episode ends
    last: float = math.nan  # seconds, time of the latest good frame
    ended: bool = False  # by a terminal frame
    frames: list[Frame] = field(default_factory=list)

    @classmethod
    def beginning(cls, row: Row) -> "_Piece":
        label = {key: value for key, value in row.meta.items() if key not in META_KEYS - FIRST_FRAME_KEYS}
        return cls({"episode_segment": 0, **label}, "episode" in row.meta)

    @property
    def source(self) -> str:
        return str(self.label.get("source", "observed"))

    def rest(self, ended: bool = False) -> "_Piece":
        """What follows a hole: the next segment of the same episode."""
        if not self.frames:
            return self
        label = self.label | {"episode_segment": self.label["episode_segment"] + 1}
        return _Piece(label, self.named, self.last, ended)

    def add(self, frame: Frame) -> None:
        if not self.frames:
            frame = replace(frame, meta={"episode": name_of(frame), "source": "observed", **frame.meta, **self.label})
            self.label = {key: frame.meta[key] for key in {*self.label, "episode", "source"}}
        self.frames.append(frame)
        self.last = frame.timestamp

    def ends_before(self, row: Row, max_gap_s: float) -> bool:
        """Whether the row belongs to another episode; an episode line is one whatever its frames say."""
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

    def flaw(self, row: Row) -> str:
        """Why the frame cannot follow those before it; empty where it can."""
        meta, frame = row.meta, row.frame
        for key in ("episode", "source"):
            if key in meta and str(meta[key]) != str(self.label.get(key, meta[key])):
                return str(wrong(f"meta.{key}", meta[key], f"{self.label[key]} as in the line's first frame"))
        if frame is not None and frame.timestamp <= self.last:
            return str(wrong("timestamp", frame.timestamp, f"more than {self.last!r}, the time of the frame before"))
        return self._dream_flaw(meta) if "dream" in (self.source, meta.get("source")) else ""

    def _dream_flaw(self, meta: Mapping[str, Any]) -> str:
        split = self.label.get("split", meta.get("split", "train"))
        if not self.frames and split != "train":
            return str(wrong("meta.split", split, "train: a dream is never held out"))
        if "confidence" in meta and not is_number(meta["confidence"], 0, 1):
            return str(wrong("meta.confidence", meta["confidence"], "a number from 0 to 1, or no such key"))
        if self.frames and ("confidence" in meta) != ("confidence" in self.frames[0].meta):
            return "meta.confidence: expected in every frame of a dream, or in none"
        return ""
