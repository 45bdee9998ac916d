"""Remarks on what a log lets one learn at all, and on what of it is not read."""

from collections.abc import Iterator

import numpy as np

from worldmodel.core.text import escaped
from worldmodel.linting.remarks import LintedLogs, Remark

LOST = 0.1  # share of frames
FEW = 10  # episodes
CLASSES = 32  # integers in a list
ENDS = ("done", "end", "terminal", "terminated", "truncated", "is_last", "is_terminal", "is_first", "reset", "last")
INDEX = ("episode", "rollout", "trial", "traj", "demo", "run_id", "seq")


def no_windows(logs: LintedLogs) -> Iterator[Remark]:
    """Frames of episodes too short for one window."""
    short = [each for each in logs.placed if each.episode.length <= logs.limits.history]
    lost, total = (sum(each.episode.length for each in some) for some in (short, logs.placed))
    if lost > LOST * total:
        yield short[0].remark(
            "no-windows",
            f"{'ALL ' if lost == total else ''}{lost} of {total} frames are in {len(short)} episodes of at most "
            f"{logs.limits.history} frames (train.history), and nothing is learned from them; log longer episodes, "
            f"lower train.history, or raise prepare.max_gap_s ({logs.limits.max_gap_s:g} s) where pauses cut them",
            lost,
        )


def few_episodes(logs: LintedLogs) -> Iterator[Remark]:
    long = logs.limits.history
    usable = [pieces[0] for pieces in logs.by_identity.values() if any(each.episode.length > long for each in pieces)]
    if len(usable) == 1:
        yield usable[0].remark(
            "one-episode",
            "one recording that never resets: train, val and test cannot share it; cut it into episodes by "
            "meta.episode, say one for each ten minutes",
        )
    elif 1 < len(usable) < FEW:
        yield Remark(
            "few-episodes",
            f"{len(usable)} episodes are long enough for a window, to be split among train, val and test; with fewer "
            f"than {FEW} a result depends on which one is tested: cut long ones, or log more",
            len(usable),
        )


def action_kind(logs: LintedLogs) -> Iterator[Remark]:
    """Integers in lists."""
    first = logs.placed[0].episode.table().actions
    actions = logs.sample.actions
    if actions is None or first is None or first.ndim == 1:
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
    """Keys that look like an end or an index of an episode, and mean nothing here."""
    for key, (file, line, count) in sorted(logs.meta_keys.items()):
        name = key.lower()
        if name in ENDS or name.startswith(INDEX):
            meant = "meta.terminal" if name in ENDS else "meta.episode"
            yield Remark(
                "unused-meta",
                f"meta.{escaped(key)} means nothing here, and it looks as if episodes END by it; call it {meant}, or "
                "frames of different episodes are learned as one",
                count,
                file,
                line,
            )


def unread_files(logs: LintedLogs) -> Iterator[Remark]:
    if logs.unread:
        shown = ", ".join(logs.unread[:5]) + (", ..." if len(logs.unread) > 5 else "")
        yield Remark(
            "unread-files",
            f"{len(logs.unread)} files are not read: {shown}; a log ends in .jsonl or .jsonl.gz; "
            "of other formats, `worldmodel convert` says what a file needs, or writes a log",
            len(logs.unread),
            logs.unread[0],
        )
