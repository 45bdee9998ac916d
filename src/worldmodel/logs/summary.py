"""A summary of logs as text: files, frames, episodes, agents, time, actions, and the range of every number."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.episodes.columns import NAMELESS, Column, Columns
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.logs.files import LogFile

SHOWN_AGENTS = 8
SHOWN_ACTIONS = 12
SHOWN_COLUMNS = 1000
LONG_STEP = 1.5  # a step is a gap beyond so many times its episode's median


@dataclass
class Ranges:
    """Running minimum, sum and maximum of D columns, readings of each, and how many of their steps change nothing."""

    low: NDArray[Any]  # [D]
    high: NDArray[Any]
    total: NDArray[np.float64]
    count: NDArray[np.int64]
    unchanged: NDArray[np.int64]
    frames: int = 0
    steps: int = 0

    @classmethod
    def of(cls, width: int) -> "Ranges":
        none = np.zeros(width, np.int64)
        return cls(np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width), none, none)

    def add(self, values: NDArray[Any]) -> None:
        """`values` are one episode's, [T, D], NaN where a reading is missing."""
        self.low = np.fmin(self.low, np.fmin.reduce(values))
        self.high = np.fmax(self.high, np.fmax.reduce(values))
        self.total = self.total + np.nansum(values, 0, dtype=np.float64)
        self.count = self.count + (values == values).sum(0)
        self.unchanged = self.unchanged + (values[1:] == values[:-1]).sum(0)
        self.frames += len(values)
        self.steps += len(values) - 1

    def rows(self, name: str, columns: Sequence[Column]) -> list[list[str]]:
        """For each column: name, min, mean, max, and the shares of steps that change nothing and of what is missing."""
        width = len(self.low)
        rows = list[list[str]]()
        for index in range(min(width, SHOWN_COLUMNS)):
            own = " ".join(filter(None, (columns[index].name, columns[index].unit))) if columns else ""
            low, high, count = self.low[index], self.high[index], max(int(self.count[index]), 1)
            still = "always" if low == high else f"{self.unchanged[index] / max(self.steps, 1):.1%}"
            missing = 1 - self.count[index] / self.frames
            numbers = (f"{value:.5g}" for value in (low, self.total[index] / count, high))
            rows.append([_label(name, index, width, own), *numbers, still, f"{missing:.1%}" if missing else ""])
        return rows if width <= SHOWN_COLUMNS else [*rows, [f"... and {width - SHOWN_COLUMNS} more", *[""] * 5]]


def _label(name: str, index: int, width: int, own: str) -> str:
    return " ".join(filter(None, (name, str(index) if width > 1 else "", own)))


@dataclass
class LogSummary:
    """Counts over episodes, which are added one by one and not kept."""

    lengths: list[int] = field(default_factory=list)
    agents: Counter[str] = field(default_factory=Counter)  # frames
    kinds: Counter[str] = field(default_factory=Counter)  # observed, dream, terminal, pieces
    steps: list[float] = field(default_factory=list)  # seconds, median of each episode
    gaps: int = 0
    longest: float = 0.0  # seconds
    choices: Counter[int] = field(default_factory=Counter)  # discrete actions
    ranges: dict[str, Ranges] = field(default_factory=dict)

    def add(self, episode: EpisodeView) -> None:
        table = episode.table()
        self.lengths.append(episode.length)
        self.agents[episode.agent_id] += episode.length
        self.kinds[episode.source] += 1
        for kind, holds in (
            ("terminal", episode.terminal),
            ("truncated", episode.truncated),
            ("piece", episode.segment),
        ):
            self.kinds[kind] += bool(holds)
        self._add_steps(table.timestamps)
        columns = {"feature": table.features, "action": table.actions, "reward": table.rewards}
        for name, values in (columns | {"context": table.context}).items():
            if name == "action" and values is not None and values.ndim == 1:
                self.choices.update(values.tolist())
            elif values is not None:
                wide = values.reshape(len(values), -1)
                self.ranges.setdefault(name, Ranges.of(wide.shape[1])).add(wide)

    def _add_steps(self, timestamps: NDArray[np.float64]) -> None:
        if len(timestamps) > 1:
            with np.errstate(over="ignore"):
                steps = np.diff(timestamps)
            self.steps.append(float(np.median(steps)))
            self.gaps += int((steps > LONG_STEP * self.steps[-1]).sum())
            self.longest = max(self.longest, float(steps.max()))

    def lines(self, files: Sequence[LogFile], columns: Columns = NAMELESS) -> list[str]:
        """The text, line by line."""
        size, empty = sum(file.size for file in files), sum(file.size == 0 for file in files)
        facts = {
            "files": f"{len(files)}, {size / 2**20:.1f} MiB" + (f", {empty} of them empty" if empty else ""),
            "frames": f"{sum(self.lengths)}",
            "episodes": self._episodes(),
            "agents": self._agents(),
            "steps": self._steps(),
            "gaps": self._gaps(),
            "actions": self._actions(),
            "rewards": "one a frame" if "reward" in self.ranges else "none",
        }
        table = [["", "min", "mean", "max", "unchanged", "missing"]]
        named = {"feature": columns.features, "action": columns.actions, "context": columns.context}
        table += chain.from_iterable(ranges.rows(name, named.get(name, ())) for name, ranges in self.ranges.items())
        shown = 6 if any(row[5] for row in table[1:]) else 5
        facts_shown = [f"{name:<9} {fact}" for name, fact in facts.items()]
        return [*facts_shown, "", *_aligned([row[:shown] for row in table])]

    def _episodes(self) -> str:
        if not self.lengths:
            return "0"
        low, median, high = min(self.lengths), int(np.median(self.lengths)), max(self.lengths)
        length = f"{low} frames each" if low == high else f"{low} to {high} frames, median {median}"
        named = {
            "dream": "dreams",
            "terminal": "ended for good",
            "truncated": "broken off",
            "piece": "pieces behind a hole",
        }
        notes = [f"{self.kinds[kind]} {text}" for kind, text in named.items() if self.kinds[kind]]
        return ", ".join([f"{len(self.lengths)}, {length}", *notes])

    def _agents(self) -> str:
        shown = [f"{agent} {count}" for agent, count in sorted(self.agents.items())[:SHOWN_AGENTS]]
        more = [f"and {len(self.agents) - SHOWN_AGENTS} more"] if len(self.agents) > SHOWN_AGENTS else []
        return f"{len(self.agents)}, frames of each: {', '.join([*shown, *more])}" if shown else "0"

    def _steps(self) -> str:
        if not self.steps:
            return "none, every episode has one frame"
        low, median, high = min(self.steps), float(np.median(self.steps)), max(self.steps)
        return f"{median:.4g} s from frame to frame (median; by episode {low:.4g} to {high:.4g} s)"

    def _gaps(self) -> str:
        if not self.gaps:
            return f"none: no step within an episode is longer than {LONG_STEP:g} of its median steps"
        text = f"{self.gaps} steps within episodes are longer than {LONG_STEP:g} of their median steps"
        return f"{text}, the longest {self.longest:.4g} s"

    def _actions(self) -> str:
        if "action" in self.ranges:
            return f"vectors of {len(self.ranges['action'].low)} numbers"
        if not self.choices:
            return "none"
        shown = [f"{action} {count / sum(self.lengths):.1%}" for action, count in sorted(self.choices.items())]
        more = [f"and {len(shown) - SHOWN_ACTIONS} more"] if len(shown) > SHOWN_ACTIONS else []
        return f"integers from 0 to {max(self.choices)}: {', '.join([*shown[:SHOWN_ACTIONS], *more])}"


def summarize(episodes: Iterable[EpisodeView]) -> LogSummary:
    summary = LogSummary()
    for episode in episodes:
        summary.add(episode)
    return summary


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in table
    ]
