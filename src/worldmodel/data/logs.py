"""JSONL logs -> episodes, and back. Whatever is refused is named by file, line and reason.

Three plain steps: rows.parse_line reads one line, conform holds a row against what all rows have in common,
grouping.group joins the rows of a file. No transition ever crosses a refused row.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from worldmodel.data.files import find_logs, read_blocks
from worldmodel.data.frame import Frame
from worldmodel.data.grouping import group
from worldmodel.data.rejects import Reject
from worldmodel.data.rows import Row, rows_of
from worldmodel.data.schema import ActionSpace, Episode, Kind
from worldmodel.runtime.atomic import replacing


class Signature(NamedTuple):
    """What all rows of one data set have in common."""

    features: int
    kind: Kind
    action: int  # length of a continuous action, else 0
    reward: bool


@dataclass(frozen=True)
class Logs:
    """All that was read: each of the `rows` is either a frame of an episode or a reject."""

    episodes: tuple[Episode, ...]
    rejects: tuple[Reject, ...]
    rows: int
    action_space: ActionSpace
    feature_count: int
    has_rewards: bool


def read_logs(folders: Sequence[Path], max_gap_s: float) -> Logs:
    """Every episode in the folders' files, in order of folder, path and first row; frames of both kinds of line.

    Raises ValueError where a folder or its log files are missing, or where they hold no row at all.
    """
    files = find_logs(folders)
    tables = [
        (file.name, [row for block in read_blocks(file) for row in rows_of(block)])
        for file in tqdm(files, desc="logs", unit="file", disable=None)
    ]
    if not any(rows for _, rows in tables):
        raise ValueError(f"{', '.join(map(str, folders))}: {len(files)} log files without a single row; add frames")
    signature = common_signature(row for _, rows in tables for row in rows)
    episodes: list[Episode] = []
    rejects: list[Reject] = []
    for name, rows in tables:
        kept, refused = group((conform(row, signature) for row in rows), max_gap_s)
        episodes += kept
        rejects += [Reject(name, row.line, row.reason) for row in refused]
    return Logs(
        episodes=tuple(_distinct(episodes)),
        rejects=tuple(rejects),
        rows=sum(len(rows) for _, rows in tables),
        action_space=_action_space(episodes, signature),
        feature_count=signature.features,
        has_rewards=signature.reward,
    )


def common_signature(rows: Iterable[Row]) -> Signature:
    """The most frequent signature of observed frames, of dreams where nothing is observed; the first one of equals."""
    counts: dict[bool, Counter[Signature]] = {True: Counter(), False: Counter()}
    for row in rows:
        if row.frame is not None:
            counts[row.meta.get("source") == "dream"][_signature(row.frame)] += 1
    votes = counts[False] or counts[True]
    return votes.most_common(1)[0][0] if votes else Signature(0, "none", 0, False)


def conform(row: Row, signature: Signature) -> Row:
    """The row, refused where its frame deviates from the signature."""
    if row.frame is None or row.reason or _signature(row.frame) == signature:
        return row
    found = _signature(row.frame)
    said = [
        (f"features: found {found.features} numbers", f"{signature.features}", found.features != signature.features),
        (f"action: found {_action_text(found)}", _action_text(signature), found[1:3] != signature[1:3]),
        (f"reward: found {_reward_text(found)}", _reward_text(signature), found.reward != signature.reward),
    ]
    reason = "; ".join(f"{what}, expected {expected} as in most rows" for what, expected, differs in said if differs)
    return replace(row, reason=reason)


def _signature(frame: Frame) -> Signature:
    action = frame.action
    if isinstance(action, np.ndarray):
        return Signature(frame.features.size, "continuous", action.size, frame.reward is not None)
    return Signature(frame.features.size, "none" if action is None else "discrete", 0, frame.reward is not None)


def _action_text(signature: Signature) -> str:
    return {"none": "none", "discrete": "an integer", "continuous": f"{signature.action} numbers"}[signature.kind]


def _reward_text(signature: Signature) -> str:
    return "one" if signature.reward else "none"


def _action_space(episodes: Iterable[Episode], signature: Signature) -> ActionSpace:
    if signature.kind != "discrete":
        return ActionSpace(signature.kind, signature.action)
    largest = [int(episode.actions.max()) for episode in episodes if episode.actions is not None]
    return ActionSpace("discrete", 1 + max(largest, default=-1))


def _distinct(episodes: Sequence[Episode]) -> list[Episode]:
    """The same episodes with (source, identity, segment) made unique: a name that returns takes the next free segment.

    Of equals the one that is earliest in time keeps its number, so that the order of files decides nothing else.
    """
    taken: set[tuple[str, str, int]] = set()
    distinct = list(episodes)
    for index in sorted(range(len(distinct)), key=lambda index: distinct[index].timestamps[0]):
        episode, segment = distinct[index], distinct[index].segment
        while (episode.source, episode.identity, segment) in taken:
            segment += 1
        taken.add((episode.source, episode.identity, segment))
        distinct[index] = replace(episode, segment=segment)
    return distinct


def write_jsonl(path: Path, episodes: Iterable[Episode]) -> None:
    """Episodes as frame lines that read_logs turns into equal ones; the same bytes every time, gzip where named .gz."""
    with replacing(path) as temporary, temporary.open("wb") as raw, _packed(raw, path.suffix) as stream:
        for episode in episodes:
            stream.write("".join(_line(frame) for frame in episode.to_frames()).encode("ascii"))


def _packed(raw: BinaryIO, suffix: str) -> AbstractContextManager[gzip.GzipFile | BinaryIO]:
    """The stream itself, or gzip of it without the name and time that a gzip header else holds."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if suffix == ".gz" else nullcontext(raw)


def _line(frame: Frame) -> str:
    return json.dumps(frame.to_json(), separators=(",", ":"), allow_nan=False) + "\n"
