"""Remarks on time, names and places: what episodes the frames fall into."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from worldmodel.linting.batch import Placed
from worldmodel.linting.facts import LONG
from worldmodel.linting.remark import Remark
from worldmodel.linting.remarks import LintedLogs

UNITS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
NOW = (0.3e9, 4e9)  # seconds since 1970, from 1979 to 2096
FASTEST, SLOWEST = 1e-4, 10.0  # seconds, steps of agents that act
ROUND = (5, 10, 15, 30)  # steps that people choose in seconds, like whole minutes


def time_unit(logs: LintedLogs) -> Iterator[Remark]:
    """Timestamps that count parts of seconds."""
    alone = [each.begin for each in logs.placed if each.length == 1]
    steps = list(logs.facts.clock.medians) or [step for step in np.diff(alone) if step > 0]
    if not steps:
        return
    first = logs.placed[0]
    step, begin = float(np.median(steps)), abs(first.begin)
    for unit, name in UNITS.items():
        since_1970 = NOW[0] <= begin / unit <= NOW[1] and begin > NOW[1]
        counted = step >= SLOWEST / 2 and step not in ROUND and step % 60 and FASTEST <= step / unit <= SLOWEST
        if since_1970 or (counted and begin < NOW[0]):
            yield first.remark(
                "time-unit",
                f"steps of {step:g}, likely {name}; timestamps are seconds: divide them by {unit:.0e}",
                logs.facts.frames,
            )
            return


def gaps(logs: LintedLogs) -> Iterator[Remark]:
    """Holes that prepare.max_gap_s leaves in episodes."""
    clock, limit = logs.facts.clock, logs.limits.intake.max_gap_s
    if clock.first:
        yield clock.first.remark(
            "gap",
            f"{clock.holes} steps are longer than {LONG:g} times their episode's median step, the longest "
            f"{clock.longest:.4g} s; each is learned as one step: lower prepare.max_gap_s ({limit:g} s), which cuts "
            "there, or set prepare.resample_s, which fills them",
            clock.holes,
        )


def out_of_order(logs: LintedLogs) -> Iterator[Remark]:
    """Frames without a name that step back into the time of the episode before, which cuts it."""
    last, found = dict[tuple[str, str], Placed](), list[Placed]()
    for each in logs.placed:
        if each.name.startswith("@"):
            before = last.get((each.agent_id, each.file))
            if before and before.begin < each.begin <= before.end:
                found.append(each)
            last[each.agent_id, each.file] = each
    if found:
        yield found[0].remark(
            "out-of-order",
            f"{len(found)} times an agent's clock steps back, not to its start: each begins an episode of its own; "
            "sort the frames of an agent by time, or name episodes with meta.episode",
            len(found),
        )


def interleaved(logs: LintedLogs) -> Iterator[Remark]:
    """Episodes of one agent whose frames alternate."""
    found = [each for each in logs.placed if each.returns]
    if found:
        count = sum(each.returns for each in found)
        yield found[0].remark(
            "interleaved",
            f"{count} times an episode goes on after frames of another one of its agent; they are grouped by "
            "meta.episode, which is right where it names one rollout: if not, name each apart",
            count,
        )


def duplicate_frames(logs: LintedLogs) -> Iterator[Remark]:
    """Frames of one agent that stand there again, at the same time with the same features."""
    count, first = logs.repeats.found()
    if first:
        yield first.remark(
            "duplicate-frames",
            f"{count} frames stand there twice (same agent, time and features): they count twice in training, and may "
            "lie in train and test; remove one copy of each",
            count,
        )


def same_name(logs: LintedLogs) -> Iterator[Remark]:
    """One name for several rollouts."""
    found = [
        later for pieces in logs.of_one_name for earlier, later in pairwise(pieces) if not later.continues(earlier)
    ]
    if found:
        yield found[0].remark(
            "same-name",
            f"{len(found)} episodes have the agent and name of an earlier one, in another file or with a clock that "
            "begins anew: each is a rollout of its own, called NAME~2, NAME~3, ... in order of time, and drawn into a "
            "split by itself; name each apart (meta.episode), so that more logs never change these names",
            len(found),
        )
