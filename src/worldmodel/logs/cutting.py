"""Where episodes are cut before anybody learns from them, so that no window crosses a hole: at holes and by length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from worldmodel.core.params import IngestParams
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.schema import Episode
from worldmodel.episodes.temporary_store import EpisodeView, View
from worldmodel.logs.resampling import resampled, ticks
from worldmodel.logs.rollouts import distinct


@np.errstate(over="ignore", invalid="ignore")  # times may be at the ends of float64
def pieces(
    episodes: Sequence[View], intake: IngestParams, columns: Columns, keep: Callable[[Episode], View]
) -> list[View]:
    """Observed episodes cut at holes, on the clock of resample_s, cut by max_length_s; dreams are as they were.

    `keep` gets those that change. Raises ValueError where resample_s makes far too many frames.
    """
    found = list[View]()
    for episode in episodes:
        if episode.source == "dream" or _stays(episode, intake):
            found.append(episode)
        else:
            found += map(keep, _pieces(episode.whole(), intake, columns))
    return distinct(found)


def _stays(episode: EpisodeView, intake: IngestParams) -> bool:
    times, length = episode.timestamps, intake.max_length_s
    short = length is None or ticks(times, length)[-1] < 1
    return intake.resample_s is None and short and not _holes(episode, intake.max_gap_s)


def _holes(episode: EpisodeView, max_gap_s: float) -> list[int]:
    """Frames that have a hole before them."""
    return [int(frame) + 1 for frame in np.flatnonzero(np.diff(episode.timestamps) > max_gap_s)]


def _pieces(episode: Episode, intake: IngestParams, columns: Columns) -> Iterator[Episode]:
    for segment in cut(episode, _holes(episode, intake.max_gap_s)):
        if intake.resample_s is not None:
            segment = replace(segment, **resampled(segment.table(), intake.resample_s, columns)._asdict())
        yield from _by_length(segment, intake.max_length_s)


def _by_length(episode: Episode, length: float | None) -> Iterator[Episode]:
    """Pieces of that many seconds, which are episodes of their own."""
    parts = np.zeros(1) if length is None else np.floor(ticks(episode.timestamps, length))
    if not parts[-1]:
        yield episode
        return
    for number, piece in enumerate(cut(episode, (np.flatnonzero(np.diff(parts)) + 1).tolist())):
        yield replace(piece, name=f"{episode.name}#{number}")


def cut(episode: Episode, frames: Iterable[int]) -> Iterator[Episode]:
    """The parts that begin at these frames; the last one ends as the episode did."""
    for begin, end in pairwise([0, *frames, episode.length]):
        yield episode.between(begin, end)
