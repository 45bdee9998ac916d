"""A summary of logs as text: files, frames, episodes, agents, time, actions, and the range of every number."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from worldmodel.episodes.columns import Column, Columns
from worldmodel.linting.facts import COLUMNS, UNEVEN, Facts
from worldmodel.linting.ranges import Ranges
from worldmodel.logs.files import LogFile

SHOWN_AGENTS = 8
SHOWN_ACTIONS = 12
SHOWN_COLUMNS = 1000


@dataclass(frozen=True)
class Summary:
    facts: Mapping[str, Facts]  # by source
    columns: Columns

    def lines(self, files: Sequence[LogFile]) -> list[str]:
        """The text, line by line."""
        size, empty = sum(file.size for file in files), sum(file.size == 0 for file in files)
        ranges = self._ranges()
        facts = {
            "files": f"{len(files)}, {size / 2**20:.1f} MiB" + (f", {empty} of them empty" if empty else ""),
            "frames": f"{sum(self._lengths())}",
            "episodes": self._episodes(),
            "agents": self._agents(),
            "steps": self._steps(),
            "gaps": self._gaps(),
            "actions": self._actions(ranges),
            "rewards": "one a frame" if "reward" in ranges else "none",
        }
        table = [["", "min", "mean", "max", "unchanged", "missing"]]
        table += chain.from_iterable(
            _rows(name, each, getattr(self.columns, COLUMNS[name], ())) for name, each in ranges.items()
        )
        told = 6 if any(row[5] for row in table[1:]) else 5
        return [*(f"{name:<9} {fact}" for name, fact in facts.items()), "", *_aligned([row[:told] for row in table])]

    def _lengths(self) -> list[int]:
        return [each.length for facts in self.facts.values() for each in facts.placed]

    def _ranges(self) -> dict[str, Ranges]:
        found = dict[str, Ranges]()
        for facts in self.facts.values():
            for name, ranges in facts.ranges.items():
                found[name] = found[name].joined(ranges) if name in found else ranges
        return found

    def _episodes(self) -> str:
        lengths, kinds = self._lengths(), sum((facts.kinds for facts in self.facts.values()), Counter[str]())
        if not lengths:
            return "0"
        low, median, high = min(lengths), int(np.median(lengths)), max(lengths)
        length = f"{low} frames each" if low == high else f"{low} to {high} frames, median {median}"
        kinds["dream"] = len(self.facts["dream"].placed)
        named = {"dream": "dreams", "terminal": "ended for good", "truncated": "broken off"}
        named["piece"] = "pieces behind a hole"
        notes = [f"{kinds[kind]} {text}" for kind, text in named.items() if kinds[kind]]
        return ", ".join([f"{len(lengths)}, {length}", *notes])

    def _agents(self) -> str:
        agents = Counter[str]()
        for each in chain.from_iterable(facts.placed for facts in self.facts.values()):
            agents[each.agent_id] += each.length
        shown = [f"{agent} {count}" for agent, count in sorted(agents.items())[:SHOWN_AGENTS]]
        more = [f"and {len(agents) - SHOWN_AGENTS} more"] if len(agents) > SHOWN_AGENTS else []
        return f"{len(agents)}, frames of each: {', '.join([*shown, *more])}" if shown else "0"

    def _steps(self) -> str:
        steps = np.concatenate([facts.clock.medians for facts in self.facts.values()])
        if not len(steps):
            return "none, every episode has one frame"
        text = f"{np.median(steps):.4g} s from frame to frame (median; by episode"
        return f"{text} {steps.min():.4g} to {steps.max():.4g} s)"

    def _gaps(self) -> str:
        clocks = [facts.clock for facts in self.facts.values()]
        gaps = sum(clock.uneven for clock in clocks)
        if not gaps:
            return f"none: no step within an episode is longer than {UNEVEN:g} of its median steps"
        text = f"{gaps} steps within episodes are longer than {UNEVEN:g} of their median steps"
        return f"{text}, the longest {max(clock.longest for clock in clocks):.4g} s"

    def _actions(self, ranges: Mapping[str, Ranges]) -> str:
        if "action" in ranges:
            return f"vectors of {len(ranges['action'].low)} numbers"
        choices = sum((facts.choices for facts in self.facts.values()), Counter[int]())
        if not choices:
            return "none"
        shown = [f"{action} {count / choices.total():.1%}" for action, count in sorted(choices.items())]
        more = [f"and {len(shown) - SHOWN_ACTIONS} more"] if len(shown) > SHOWN_ACTIONS else []
        return f"integers from 0 to {max(choices)}: {', '.join([*shown[:SHOWN_ACTIONS], *more])}"


def _rows(name: str, ranges: Ranges, columns: Sequence[Column]) -> Iterator[list[str]]:
    """For each column: name, min, mean, max, and the shares of steps that change nothing and of what is missing."""
    width = len(ranges.low)
    for index in range(min(width, SHOWN_COLUMNS)):
        own = (columns[index].name, columns[index].unit) if columns else ()
        label = " ".join(filter(None, (name, str(index) if width > 1 else "", *own)))
        low, high, missing = ranges.low[index], ranges.high[index], int(ranges.missing[index])
        mean = ranges.total[index] / max(ranges.count - missing, 1)
        still = "always" if low == high else f"{ranges.unchanged[index] / max(ranges.steps, 1):.1%}"
        share = f"{missing / ranges.count:.1%}" if missing else ""
        yield [label, *(f"{value:.5g}" for value in (low, mean, high)), still, share]
    if width > SHOWN_COLUMNS:
        yield [f"... and {width - SHOWN_COLUMNS} more", *[""] * 5]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in table
    ]
