"""Pieces of one agent and name: which of them are one rollout, and what tells the others apart."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from worldmodel.episodes.temporary_store import View

Place = tuple[str, str, int]


class Piece(Protocol):
    """Any part of an episode."""

    @property
    def segment(self) -> int: ...
    @property
    def begin(self) -> float: ...
    @property
    def end(self) -> float: ...


def continues(piece: Piece, before: Piece) -> bool:
    """Of two pieces of one agent and name in one file: whether it is a later one of the same rollout."""
    return piece.segment > before.segment or piece.begin > before.end


def shared(names: Iterable[Hashable]) -> list[int]:
    """Indices of all names that stand there again, and perhaps of a few more with equal hashes: others take no room."""
    hashes = np.fromiter(map(hash, names), np.int64)
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    indices: list[int] = np.flatnonzero(counts[which] > 1).tolist()
    return indices


def told_apart(episodes: list[View], of_file: Sequence[int], max_gap_s: float) -> list[View]:
    """The same list in which observed rollouts that share agent and name are told apart: NAME, NAME~2, NAME~3, ... in
    order of time, then of files; behind another file, a rollout goes on where that one ends at most max_gap_s before.
    """
    rollouts = dict[str, list[list[int]]]()  # by identity, the pieces of each
    for index in _of_common_names(episodes):
        if episodes[index].source == "observed":
            known = rollouts.setdefault(episodes[index].identity, [])
            last = known[-1][-1] if known else index
            if of_file[last] == of_file[index] and continues(episodes[index], episodes[last]):
                known[-1].append(index)
            else:
                known.append([index])
    for known in rollouts.values():
        known.sort(key=lambda pieces: episodes[pieces[0]].begin)
        number = 1
        for before, pieces in pairwise(known):
            number += not 0 < episodes[pieces[0]].begin - episodes[before[-1]].end <= max_gap_s
            for index in pieces if number > 1 else ():
                episode = episodes[index]
                episodes[index] = episode.numbered(episode.segment, f"{episode.name}~{number}")
    return episodes


def distinct(episodes: list[View]) -> list[View]:
    """The same list with (source, identity, segment) made unique: what shares one gets the next free segment.

    The earliest in time keeps its number, so that the order of files does not matter.
    """
    following = dict[Place, int]()  # a segment that is taken -> one behind it that may be free
    for index in sorted(_of_common_names(episodes), key=lambda index: episodes[index].begin):
        episode = episodes[index]
        passed: list[Place] = []
        place: Place = episode.source, episode.identity, episode.segment
        while place in following:
            passed.append(place)
            place = *place[:2], following[place]
        following |= dict.fromkeys([*passed, place], place[2] + 1)
        if passed:
            episodes[index] = episode.numbered(place[2])
    return episodes


def _of_common_names(episodes: Sequence[View]) -> list[int]:
    return shared((episode.source, episode.agent_id, episode.name) for episode in episodes)
