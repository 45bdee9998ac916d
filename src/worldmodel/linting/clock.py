"""Remarks on time, names and places: what episodes the frames fall into."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from worldmodel.episodes.table import Table
from worldmodel.linting.remarks import LintedLogs, Placed, Remark

UNITS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
NOW = (0.3e9, 4e9)  # seconds since 1970, from 1979 to 2096
FASTEST, SLOWEST = 1e-4, 10.0  # seconds, steps of agents that act
ROUND = (5, 10, 15, 30)  # steps that people choose in seconds, like whole minutes
LONG = 5.0  # a step is a gap beyond so many times its episode's median


def time_unit(logs: LintedLogs) -> Iterator[Remark]:
    """Timestamps that count parts of seconds."""
    steps, first = _steps_of_streams(logs.placed)
    if first is None:
        return
    step, begin = float(np.median(steps)), abs(first.episode.begin)
    for unit, name in UNITS.items():
        since_1970 = NOW[0] <= begin / unit <= NOW[1] and begin > NOW[1]
        counted = step >= SLOWEST / 2 and step not in ROUND and step % 60 and FASTEST <= step / unit <= SLOWEST
        if since_1970 or (counted and begin < NOW[0]):
            yield first.remark(
                "time-unit",
                f"steps of {step:g}, likely {name}; timestamps are seconds: divide them by {unit:.0e}",
                sum(each.episode.length for each in logs.placed),
            )
            return


def _steps_of_streams(placed: Sequence[Placed]) -> tuple[list[float], Placed | None]:
    """Median step of each episode, and the steps between episodes of one frame."""
    steps = [float(np.median(np.diff(each.episode.table().timestamps))) for each in placed if each.episode.length > 1]
    alone = [each.episode.begin for each in placed if each.episode.length == 1]
    return steps or [step for step in np.diff(alone) if step > 0], placed[0] if steps or len(alone) > 1 else None


def gaps(logs: LintedLogs) -> Iterator[Remark]:
    """Holes in named episodes."""
    count, first, longest = 0, None, 0.0
    for each in logs.placed:
        steps = np.diff(each.episode.table().timestamps)
        if not len(steps):
            continue
        long = steps[steps > LONG * np.median(steps)]
        if len(long):
            count, first, longest = count + len(long), first or each, max(longest, float(long.max()))
    if first:
        yield first.remark(
            "gap",
            f"{count} steps are longer than {LONG:g} times their episode's median step, the longest {longest:.4g} s; "
            "they are learned as one step each: give what stands behind a hole another meta.episode",
            count,
        )


def out_of_order(logs: LintedLogs) -> Iterator[Remark]:
    """Frames without a name that step back into the time of the episode before, which cuts it."""
    found = [
        (later, earlier)
        for stream in logs.by_agent_and_file.values()
        for earlier, later in pairwise([each for each in stream if each.episode.name.startswith("@")])
        if earlier.episode.begin < later.episode.begin <= _end(earlier)
    ]
    if found:
        yield found[0][0].remark(
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
    """Frames of one agent and episode that stand there again, at the same time with the same features."""
    count, first = 0, None
    for group in _groups_in_time(logs):
        marks = [_frame_hashes(each.episode.table()) for each in group]
        owner = np.repeat(np.arange(len(group)), [len(each) for each in marks])
        again = np.setdiff1d(np.arange(len(owner)), np.unique(np.concatenate(marks), return_index=True)[1])
        if len(again):
            count, first = count + len(again), first or group[owner[again[0]]]
    if first:
        yield first.remark(
            "duplicate-frames",
            f"{count} frames stand there twice (same agent, time and features): they count twice in training, and may "
            "lie in train and test; remove one copy of each",
            count,
        )


def _frame_hashes(table: Table) -> NDArray[np.uint64]:
    """[T] of time and features."""
    times = np.ascontiguousarray(table.timestamps).view(np.uint64)
    bits = np.ascontiguousarray(table.features).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, bits.shape[1] + 1, dtype=np.uint64)
    found: NDArray[np.uint64] = bits @ factors[1:] + (times ^ (times >> np.uint64(29))) * factors[0]
    return found


def _groups_in_time(logs: LintedLogs) -> Iterator[list[Placed]]:
    """Episodes of one agent that share time."""
    by_agent = dict[str, list[Placed]]()
    for each in logs.placed:
        by_agent.setdefault(each.episode.agent_id, []).append(each)
    for stream in by_agent.values():
        group, end = list[Placed](), -np.inf
        for each in sorted(stream, key=lambda each: each.episode.begin):
            if each.episode.begin > end:
                if len(group) > 1:
                    yield group
                group = []
            group.append(each)
            end = max(end, _end(each))
        if len(group) > 1:
            yield group


def same_name(logs: LintedLogs) -> Iterator[Remark]:
    """One name for several rollouts: they share one draw of the split."""
    found = [
        later
        for pieces in logs.by_identity.values()
        for earlier, later in pairwise(pieces)
        if later.file != earlier.file or later.episode.begin <= _end(earlier)
    ]
    if found:
        yield found[0].remark(
            "same-name",
            f"{len(found)} episodes have the agent and name of an earlier one, in another file or with a clock that "
            "begins anew: all are put into one split together; name each rollout apart (meta.episode)",
            len(found),
        )


def _end(placed: Placed) -> float:
    return float(placed.episode.table().timestamps[-1])
