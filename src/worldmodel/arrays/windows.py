"""Packed episodes, windows as index arithmetic, and batches with exact shares of dreams.

A window is H frames of history and K frames to predict, within one episode. An episode shorter than H + K frames but
longer than H has one window, whose missing frames have weight 0; where the task ended, there are such windows up to the
last frame. A history that is not whole yet is padded in front: with its first frame, whose context stays, and with
actions of zero. Dimension key: N frames, E episodes, W windows, B batch, H history, K horizon, F features, A actions,
C context.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.mapped import release
from worldmodel.core.typing import Floats, Ints

STREAMED = 1 << 17  # rows read in order between two calls of Packed.release
PICKED = 1 << 8  # windows taken between two calls: reading one maps 64 KiB of each file around its rows


@dataclass(frozen=True)
class Labels:
    """Descriptions of the episodes, [E] each."""

    agents: tuple[str, ...]
    names: tuple[str, ...]
    splits: tuple[str, ...]  # train | val | test
    sources: tuple[str, ...]  # observed | dream
    origins: tuple[str, ...]  # logged segment that it begins in: its own if observed, "" where a dream names none
    begins: tuple[int, ...]  # frame of that segment that it begins at
    terminals: tuple[bool, ...] = ()  # whether the task ended with its last frame
    truncateds: tuple[bool, ...] = ()  # whether the recording is said to have stopped there


@dataclass(frozen=True)
class Packed:
    """Episodes end to end, in standardized units; the arrays may be memory maps."""

    features: Floats  # [N, F], NaN where a reading is missing
    actions: Floats  # [N, A + C]: actions, then context, which is known ahead like them
    rewards: Floats | None  # [N]
    confidence: Floats  # [N], 1 for observed frames
    lengths: Ints  # [E]
    labels: Labels
    context_count: int = 0  # C
    missing: bool = False  # whether any feature is NaN
    still: Floats | None = None  # [A + C] what actions of zero in raw units are; None where these are zero

    def __post_init__(self) -> None:
        frames = int(self.lengths.sum())
        arrays = [self.features, self.actions, self.confidence] + ([] if self.rewards is None else [self.rewards])
        if any(len(array) != frames for array in arrays) or len(self.labels.agents) != len(self.lengths):
            raise ValueError(
                f"packed arrays hold {[len(array) for array in arrays]} frames, the episode index {frames}; "
                "run `dvc repro normalize`"
            )

    @property
    def action_count(self) -> int:
        """A"""
        return int(self.actions.shape[1]) - self.context_count

    @cached_property
    def starts(self) -> Ints:
        """First row of each episode, [E]."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    @cached_property
    def terminal(self) -> NDArray[np.bool_] | None:
        """Whether the task ended with the last frame, [E]; None where it did so in no episode."""
        return np.array(self.labels.terminals) if any(self.labels.terminals) else None

    @cached_property
    def observed(self) -> Floats:
        """1 for episodes that were logged, 0 for dreams, [E]."""
        return np.array([source == "observed" for source in self.labels.sources], np.float32)

    def release(self) -> None:
        """Free the memory of mapped pages; they are read again when needed."""
        release((self.features, self.actions, self.rewards, self.confidence))

    def each(self, array: Floats, episodes: Ints) -> "EpisodeArrays":
        """One of the arrays, episode by episode."""
        return EpisodeArrays(self, array, episodes)

    def episode_at(self, rows: Ints) -> Ints:
        """The episode that each row belongs to."""
        return np.searchsorted(self.starts, rows, "right") - 1

    def where(self, split: str, source: str = "observed") -> Ints:
        """Indices of the episodes of a split and a source."""
        pairs = zip(self.labels.splits, self.labels.sources, strict=True)
        return np.array([index for index, pair in enumerate(pairs) if pair == (split, source)], np.int64)

    def ends(self, episodes: Ints) -> bool:
        """Whether any of these episodes ends because its task did."""
        return self.terminal is not None and bool(self.terminal[episodes].any())

    def rows(self, episode: int) -> slice:
        return slice(int(self.starts[episode]), int(self.starts[episode] + self.lengths[episode]))


@dataclass(frozen=True)
class EpisodeArrays:
    """One array of some episodes, [T, ...] each; iterating again and again holds no more than a few in memory."""

    packed: Packed
    array: Floats
    episodes: Ints

    def __iter__(self) -> Iterator[Floats]:
        read = 0
        for episode in self.episodes:
            rows = self.packed.rows(episode)
            yield self.array[rows]
            read += rows.stop - rows.start
            if read > STREAMED:
                read = 0
                self.packed.release()


@dataclass(frozen=True)
class Batch:
    history: Floats  # [B, H, F]; a missing reading has the value before it in the history, or 0
    past_actions: Floats  # [B, H-1, A + C], between the frames of the history
    planned_actions: Floats  # [B, K, A + C], the first one is applied at the last frame of the history
    features: Floats  # [B, K, F], the frames that the planned actions lead to; 0 where a reading is missing
    rewards: Floats | None  # [B, K], what each planned action earned
    weight: Floats  # [B, K], 0 where the episode has ended
    observed: Floats  # [B], 1 where logged, 0 where dreamed
    known: Floats | None = None  # [B, H, F], 1 where a reading of the history is there; None where all are
    present: Floats | None = None  # [B, K, F], the same of the frames to predict
    ended: Floats | None = None  # [B, K], 1 at the frame that the task ended with; None where no packed episode has one


@dataclass(frozen=True)
class WindowIndex:
    """First row of every window, as an array would hold it, computed from two numbers an episode."""

    offset: Ints  # [E] the first row of a window minus the window's number
    until: Ints  # [E] number of windows up to the end of the episode

    def __len__(self) -> int:
        return int(self.until[-1]) if len(self.until) else 0

    def __getitem__(self, chosen: Ints) -> Ints:
        return chosen + self.offset[np.searchsorted(self.until, chosen, "right")]


@dataclass(frozen=True)
class Windows:
    """All or some windows of some episodes."""

    packed: Packed
    history: int
    horizon: int
    index: WindowIndex | Ints  # [W] row of each window's first frame
    padding: int = 0  # frames of the history that stand in front of this one

    def __len__(self) -> int:
        return len(self.index)

    @property
    def first(self) -> Ints:
        """Row of each window's first frame, [W]."""
        return self.index[np.arange(len(self))]

    @property
    def episode(self) -> Ints:
        """[W]"""
        return self.packed.episode_at(self.first)

    def take(self, chosen: Ints, confidence: bool = False) -> Batch:
        """The windows numbered `chosen`; with `confidence`, frames are weighted by it."""
        return self.read(self.index[chosen], np.full(len(chosen), self.padding), confidence)

    def read(self, first: Ints, padding: Ints, confidence: bool = False) -> Batch:
        """Windows from any rows `first` on, behind as many frames of padding, [B] each."""
        parts = []
        for begin in range(0, max(len(first), 1), PICKED):
            part = slice(begin, begin + PICKED)
            parts.append(self._read(first[part], padding[part], confidence))
            if len(first) >= PICKED:
                self.packed.release()
        return parts[0] if len(parts) == 1 else join(parts)

    def _read(self, first: Ints, padding: Ints, confidence: bool) -> Batch:
        packed, history = self.packed, self.history
        episode = packed.episode_at(first)
        end = packed.starts[episode] + packed.lengths[episode]
        rows = (first - padding)[:, None] + np.arange(history + self.horizon)
        exists, last = rows[:, history:] < end[:, None], rows[:, history:] == end[:, None] - 1
        padded = rows[:, : history - 1] < first[:, None]
        rows = np.clip(rows, first[:, None], end[:, None] - 1)
        features, actions = packed.features[rows], packed.actions[rows[:, :-1]]
        if padded.any():
            actions[:, : history - 1, : packed.action_count][padded] = (
                0 if packed.still is None else packed.still[: packed.action_count]
            )
        weight = exists.astype(np.float32)
        known = present = None
        past, ahead = features[:, :history], features[:, history:]
        if packed.missing:
            past, known = held(past)
            present = (~np.isnan(ahead)).astype(np.float32)
            ahead = np.nan_to_num(ahead)
        return Batch(
            history=past,
            past_actions=actions[:, : history - 1],
            planned_actions=actions[:, history - 1 :],
            features=ahead,
            rewards=None if packed.rewards is None else packed.rewards[rows[:, history - 1 : -1]],
            weight=weight * packed.confidence[rows[:, history:]] if confidence else weight,
            observed=packed.observed[episode],
            known=known,
            present=present,
            ended=None if packed.terminal is None else (last & packed.terminal[episode, None]).astype(np.float32),
        )

    def at(self, chosen: Ints) -> "Windows":
        return replace(self, index=self.index[chosen])

    def every(self, stride: int) -> "Windows":
        return self.at(np.arange(0, len(self), stride))


def windows(packed: Packed, episodes: Ints, history: int, horizon: int, starts: bool = False) -> Windows:
    """Every window of the given episodes; episodes of at most `history` frames have none.

    With `starts`, one window of each of more than one frame: what is known when an episode begins, its first frame.
    """
    lengths = packed.lengths[episodes]
    if starts:
        return Windows(packed, history, horizon, packed.starts[episodes[lengths > 1]], history - 1)
    whole = np.maximum(lengths - history - horizon, 0) + 1
    if packed.terminal is not None:
        whole = np.where(packed.terminal[episodes], lengths - history, whole)
    counts = np.where(lengths > history, whole, 0)
    until = np.cumsum(counts)
    return Windows(packed, history, horizon, WindowIndex(packed.starts[episodes] - (until - counts), until))


def join(batches: Sequence[Batch]) -> Batch:
    def column(name: str) -> Floats:
        return np.concatenate([getattr(batch, name) for batch in batches])

    there = [each.name for each in fields(Batch) if getattr(batches[0], each.name) is not None]
    columns: dict[str, Any] = {"rewards": None} | {name: column(name) for name in there}
    return Batch(**columns)


def held(history: Floats) -> tuple[Floats, Floats]:
    """[B, H, F] with NaN -> the same with each one's last known value before it, or 0, and 1 where it was known."""
    known = ~np.isnan(history)
    last = np.maximum.accumulate(np.where(known, np.arange(history.shape[1])[:, None], -1), axis=1)
    values: Floats = np.take_along_axis(np.nan_to_num(history), np.maximum(last, 0), axis=1)
    return np.where(last < 0, np.float32(0), values), known.astype(np.float32)
