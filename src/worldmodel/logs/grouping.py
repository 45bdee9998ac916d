"""Rows of one file -> episodes: where each begins and ends, and which frame cannot follow the one before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Ints, Reals
from worldmodel.logs.builder import ONE, EpisodeBuilder, FoundEpisode, alone, name_in
from worldmodel.logs.frame_batch import Coded, FrameBatch
from worldmodel.logs.rows import Row

# An episode is over once so many frames of its agent have come since its own last one: so long it waits in memory.
SILENCE, LEAST_SILENCE, SILENT_NUMBERS = 1024, 16, 1 << 22
FAR = 1 << 17  # or so many lines of all agents
NAMED_MISSING = 8  # features of one row


@dataclass
class EpisodeAssembler:
    """Collects the rows of one file, given in order, and returns each episode once it has ended.

    Frames of one agent and name are one episode, whatever stands between them. A refused row cuts the episode that it
    names, every open one of its agent where it names none, or all where its agent is unknown. The rest becomes another
    segment under the same name, so that no transition crosses the hole.
    """

    max_gap_s: float
    mask: bool = False  # whether readings may be missing
    refused: list[Row] = field(default_factory=list)  # sorted by line once the file has ended
    _open: dict[str, dict[str | None, "EpisodeBuilder"]] = field(default_factory=dict)  # by agent and name
    _grown: dict[str, None] = field(default_factory=dict)  # agents whose builders may hold a frame
    _counts: dict[str, int] = field(default_factory=dict)  # frames of each agent
    _silence: int = SILENCE
    _looked: int = 0  # line at which was looked last for episodes that are over
    _line: "EpisodeBuilder | None" = None  # of an episode line
    _ended: list[FoundEpisode] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """A row that is refused, that may be refused, or whose frame lacks something."""
        if row.agent_id is None:
            self.refused.append(row)
            self._cut(list(self._grown))
            self._line = None if self._line is None else self._rest(self._line)
            return
        if row.frame is None and row.position is None and "episode" not in row.meta:
            self._cut([row.agent_id])
        now = self._counts.get(row.agent_id, 0)
        if row.frame is not None and row.position is None:
            self._counts[row.agent_id] = now + 1
        builder = self._builder_for(row, now)
        reason = row.reason or self._missing(row) or builder.refusal(row) or ("" if builder.length else row.unless_last)
        if reason:
            builder = self._refuse(row, reason, builder)
        elif row.unless_last:
            builder.last_row, builder.last, builder.ordinal, builder.line = row, row.time, now, row.line
            if row.meta.get("terminal") or row.meta.get("truncated"):
                builder = self._rest(builder, ended=True)
        else:
            builder = self._extended(builder, alone(row), ONE, np.array([now]))
        self._keep(row, builder)

    def add_batch(self, batch: FrameBatch) -> None:
        """As adding each row: the first good one of a run decides for the others, which can only follow it."""
        self._silence = max(LEAST_SILENCE, min(SILENCE, SILENT_NUMBERS // batch.signature.features))
        missing: NDArray[np.bool_] = np.logical_and(not self.mask, np.isnan(batch.table.features).any(axis=1))
        self._end_far(int(batch.lines[0]))
        ordinals = self._ordinals(batch)
        for run in _runs(batch, missing, ordinals, self.max_gap_s, self._silence):
            for number, index in enumerate(run.tolist()):
                head = batch.head(index)
                builder = self._builder_for(head, int(ordinals[index]))
                reason = missing_reason(batch.table.features[index]) if missing[index] else builder.refusal(head)
                if reason:
                    self._keep(head, self._refuse(head, reason, builder))
                else:
                    rest = run[number:]
                    self._keep(head, self._extended(builder, batch, rest, ordinals[rest]))
                    break

    def take(self) -> Iterator[FoundEpisode]:
        """The episodes that have ended since the last call."""
        ended, self._ended = self._ended, []
        yield from ended

    def end(self) -> None:
        for builder in (self._line, *(each for some in self._open.values() for each in some.values())):
            self._end(builder)
        self._line, self._open, self._grown = None, {}, {}
        self.refused.sort(key=lambda row: (row.line, row.position or 0))

    def _missing(self, row: Row) -> str:
        missing = not self.mask and row.frame is not None and np.isnan(row.frame.features).any()
        return missing_reason(row.frame.features) if row.frame is not None and missing else ""

    def _ordinals(self, batch: FrameBatch) -> Ints:
        """[N] number of each frame among those of its agent; episodes of these agents that are long silent end."""
        if batch.positions is not None:
            return np.zeros(len(batch), np.int64)
        codes, ordinals = batch.agents.codes, np.empty(len(batch), np.int64)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(batch.agents.values) + 1)).tolist()
        for agent, (begin, end) in zip(batch.agents.values, pairwise(bounds), strict=True):
            before = self._counts.get(agent, 0)
            ordinals[order[begin:end]] = np.arange(before, before + end - begin)
            self._counts[agent] = before + end - begin
            some = self._open.get(agent, {})
            for name in [name for name, each in some.items() if before - each.ordinal > self._silence]:
                self._end(some.pop(name))
        return ordinals

    def _end_far(self, line: int) -> None:
        """End what is over by then, now and then: agents that never come again are forgotten."""
        if line - self._looked <= FAR // 4:
            return
        self._looked = line
        for agent, some in list(self._open.items()):
            for name in [name for name, each in some.items() if line - each.line > FAR]:
                self._end(some.pop(name))
            if not some:
                del self._open[agent]
                self._grown.pop(agent, None)
                self._counts.pop(agent, None)

    def _builder_for(self, row: Row, ordinal: int) -> "EpisodeBuilder":
        """The open builder that the row may belong to; otherwise a new one, and the one that it replaces ends."""
        if row.position is not None:
            builder = self._line if self._line is not None and self._line.number == row.line else None
            replaced = self._line
        else:
            builder = replaced = self._open.get(str(row.agent_id), {}).get(name_in(row.meta))
            silent = builder and (ordinal - builder.ordinal > self._silence or row.line - builder.line > FAR)
            if builder and (silent or builder.ends_before(row, self.max_gap_s)):
                builder = None
        if builder is None:
            self._end(replaced)
            return EpisodeBuilder.beginning(row, ordinal)
        return self._refuse_last(builder) if builder.last_row else builder

    def _extended(self, builder: "EpisodeBuilder", batch: FrameBatch, rows: Ints, ordinals: Ints) -> "EpisodeBuilder":
        builder.extend(batch, rows, ordinals)
        return self._rest(builder, ended=True) if builder.terminal or builder.truncated else builder

    def _refuse(self, row: Row, reason: str, builder: "EpisodeBuilder") -> "EpisodeBuilder":
        placed = reason if row.position is None else f"episode[{row.position}]: {reason}"
        self.refused.append(replace(row, reason=placed, frame=None))
        return self._rest(builder)

    def _refuse_last(self, builder: "EpisodeBuilder") -> "EpisodeBuilder":
        """Its row without action or reward is not the last one, as another one has come."""
        row, builder.last_row = builder.last_row, None
        assert row is not None
        return self._refuse(row, row.unless_last, builder)

    def _keep(self, row: Row, builder: "EpisodeBuilder") -> None:
        if row.position is None:
            self._open.setdefault(str(row.agent_id), {})[builder.key] = builder
            self._grown[str(row.agent_id)] = None
        else:
            self._line = builder

    def _rest(self, builder: "EpisodeBuilder", ended: bool = False) -> "EpisodeBuilder":
        if not builder.length:
            return builder
        self._end(builder)
        return builder.rest(ended)

    def _cut(self, agents: Sequence[str]) -> None:
        for agent in agents:
            if agent in self._grown:
                del self._grown[agent]
                self._open[agent] = {key: self._rest(each) for key, each in self._open[agent].items()}

    def _end(self, builder: "EpisodeBuilder | None") -> None:
        if builder is not None and builder.length:
            self._ended.append(builder.episode())


def missing_reason(features: Reals) -> str:
    """Why a frame is refused of which readings are NaN."""
    found = np.flatnonzero(np.isnan(features)).tolist()
    more = f" and {len(found) - NAMED_MISSING} more" if len(found) > NAMED_MISSING else ""
    named = ", ".join(f"features[{each}]" for each in found[:NAMED_MISSING])
    return f"{named}{more}: missing (null), expected a number; prepare.missing: mask keeps such rows"


def _runs(
    batch: FrameBatch, missing: NDArray[np.bool_], ordinals: Ints, max_gap_s: float, silence: int
) -> Iterator[Ints]:
    """Rows of one episode of which only the first can begin it or be refused, and only the last can end it."""
    agents, labels, table = batch.agents.codes, batch.labels.codes, batch.table
    names = Coded.of([label.episode for label in batch.labels.values]).codes[labels]
    named = np.array([label.episode is not None for label in batch.labels.values])[labels]
    order = np.lexsort((names, agents)) if batch.positions is None else np.arange(len(batch))
    row, before = order[1:], order[:-1]
    with np.errstate(over="ignore"):
        steps = table.timestamps[row] - table.timestamps[before]
    follows = (agents[row] == agents[before]) & (labels[row] == labels[before]) & (steps > 0)
    follows &= (batch.terminal[before] | batch.truncated[before]) == 0
    follows &= ~(missing[row] | missing[before])
    if batch.positions is None:
        follows &= (named[row] | (steps <= max_gap_s)) & (ordinals[row] - ordinals[before] <= silence)
        follows &= batch.lines[row] - batch.lines[before] <= FAR
    if batch.segments is not None:
        follows &= batch.segments[row] < 0
    if table.confidence is not None:
        follows &= np.isnan(table.confidence[row]) == np.isnan(table.confidence[before])
    bounds = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(order)]
    yield from (order[begin:end] for begin, end in pairwise(bounds))
