"""Remarks on what a log lets one learn at all, and on what of it is not read."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from worldmodel.core.text import escaped
from worldmodel.linting.batch import Placed
from worldmodel.linting.remark import Remark
from worldmodel.linting.remarks import LintedLogs

LOST = 0.1  # share of frames
FEW = 10  # episodes
CLASSES = 32  # integers in a list
ENDS = ("done", "end", "terminal", "terminated", "is_last", "is_terminal", "is_first", "reset", "last")
STOPS = ("timeout", "time_limit", "truncation", "cut", "stopped")
INDEX = ("episode", "rollout", "trial", "traj", "demo", "run_id", "seq")
KNOWN_AHEAD = ("context",)
CUT = (
    "cut it where prepare.max_length_s says (say 600, and each piece is an episode), or let train, val and test share "
    "it in time: prepare.split_by: time"
)


def no_windows(logs: LintedLogs) -> Iterator[Remark]:
    """Frames of episodes too short for one window."""
    limits = logs.limits
    short = [each for each in logs.placed if each.length <= limits.history]
    lost, total = (sum(each.length for each in some) for some in (short, logs.placed))
    if lost > LOST * total:
        yield short[0].remark(
            "no-windows",
            f"{'ALL ' if lost == total else ''}{lost} of {total} frames are in {len(short)} episodes of at most "
            f"{limits.history} frames (train.history), and nothing is learned from them; log longer episodes, lower "
            f"train.history, or raise prepare.max_gap_s ({limits.intake.max_gap_s:g} s) where pauses cut them",
            lost,
        )


def _usable(logs: LintedLogs) -> Iterator[Placed]:
    """Episodes with a piece that is long enough for a window; a name whose clock begins anew is another episode."""
    last = dict[tuple[str, str], tuple[Placed, bool]]()
    for each in logs.placed:
        before, counted = last.get(each.identity, (each, False))
        counted &= each.continues(before)
        if each.length > logs.limits.history and not counted:
            counted = True
            yield each
        last[each.identity] = each, counted


def few_episodes(logs: LintedLogs) -> Iterator[Remark]:
    """Too few to split, unless time splits them."""
    if logs.limits.intake.split_by == "time":
        return
    usable = list(islice(_usable(logs), FEW))
    if len(usable) == 1:
        yield usable[0].remark(
            "one-episode", f"one recording that never resets: train, val and test cannot share it as it is; {CUT}"
        )
    elif 1 < len(usable) < FEW:
        yield Remark(
            "few-episodes",
            f"{len(usable)} episodes are long enough for a window, to be split among train, val and test; with fewer "
            f"than {FEW} a result depends on which one is tested: log more, or cut long ones where "
            "prepare.max_length_s says, or set prepare.split_by: time",
            len(usable),
        )


def action_kind(logs: LintedLogs) -> Iterator[Remark]:
    """Integers in lists."""
    actions = logs.sample.actions
    if actions is None or logs.sample.choices:
        return
    values = np.unique(actions)
    if len(values) <= CLASSES and (values == np.round(values)).all() and len(values) > 1:
        yield logs.placed[0].remark(
            "action-kind",
            f"actions are lists of whole numbers from {values[0]:g} to {values[-1]:g}, and are learned as quantities; "
            "where they name a choice, log an integer without a list",
            len(actions),
        )


def unused_meta(logs: LintedLogs) -> Iterator[Remark]:
    """Keys that look like an end, an index of an episode or an input known ahead, and mean nothing here."""
    for key, (file, line, count) in sorted(logs.meta_keys.items()):
        name = key.lower()
        if name in ENDS or name.startswith(INDEX):
            meant = "meta.terminal" if name in ENDS else "meta.episode"
            told = f"it looks as if episodes END by it; call it {meant}, or frames of different episodes are one"
        elif name.startswith(STOPS):
            told = "it looks as if a recording stops there; call it meta.truncated"
        elif name in KNOWN_AHEAD:
            told = "inputs known ahead stand beside `action` in the frame: context"
        else:
            continue
        yield Remark("unused-meta", f"meta.{escaped(key)} means nothing here, and {told}", count, file, line)
