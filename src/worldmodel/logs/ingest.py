"""Logs as every stage sees them: read, checked, cut at holes, put on one clock, cut by length, split."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from worldmodel.core.params import IngestParams
from worldmodel.episodes.columns import Columns
from worldmodel.episodes.schema import Episode, Split
from worldmodel.episodes.table import Table
from worldmodel.episodes.temporary_store import EpisodeView, View
from worldmodel.logs.cutting import pieces
from worldmodel.logs.described import columns_of, fitted
from worldmodel.logs.files import Location
from worldmodel.logs.reader import Beside, Logs, collect_logs
from worldmodel.logs.rejects import Reject, require_few_rejects, write_rejects
from worldmodel.logs.split import assign, by_time

SAMPLED = 20_000  # about so many frames tell how finely features move
FINE = 16  # float32 spacings: what usually moves by no more would be lost in them


@dataclass(frozen=True)
class Ingested(Logs[View]):
    """All episodes with the split of each; their features are float64 where float32 would lose what moves."""

    splits: tuple[Split | None, ...]  # None where train_episodes leaves it out
    columns: Columns
    missing: bool  # whether any reading is
    interval_s: float  # from frame to frame of observed train episodes, median, six digits
    margin: int  # frames left out where time splits

    def observed(self, split: Split) -> list[View]:
        pairs = zip(self.episodes, self.splits, strict=True)
        return [episode for episode, own in pairs if own == split and episode.source == "observed"]


def ingest(
    sources: Sequence[Location],
    intake: IngestParams,
    keep: Callable[[Episode], View],
    rejects: Path | None = None,
    history: int = 1,
    beside: Beside | None = None,
) -> Ingested[View]:
    """Memory need hold no more than what `keep` returns for each episode; `beside` as in collect_logs.

    Raises ValueError where logs are missing or bad (then the file `rejects` lists the bad rows), where a split is
    empty, and where no observed episode of train, or of test, has more frames than a window's history.
    """
    logs = collect_logs(sources, intake.max_gap_s, keep, missing=intake.missing, beside=beside)
    columns = columns_of(sources, logs.named.items())
    logs = replace(logs, rejects=tuple(named(reject, columns) for reject in logs.rejects))
    try:
        require_few_rejects(logs.rejects, logs.rows, intake.max_rejected_share)
    except ValueError:
        if rejects is not None:
            write_rejects(rejects, logs.rejects)
        raise
    return _divided(logs, columns, intake, keep, history)


@np.errstate(over="ignore", invalid="ignore")
def _divided(
    logs: Logs[View], columns: Columns, intake: IngestParams, keep: Callable[[Episode], View], history: int
) -> Ingested[View]:
    columns = fitted(columns, logs.feature_count, logs.action_space, logs.context_count)
    whole = pieces(logs.episodes, intake, columns, keep)
    episodes = by_time(whole, intake, keep)
    splits = assign(episodes, intake)
    _require_windows(episodes, splits, history, intake)
    sample = _spread_out(episodes, splits)
    found = episodes if _is_wide(sample) else [episode.narrowed() for episode in episodes]
    steps = np.concatenate([np.diff(table.timestamps) for table in sample])
    return Ingested(
        **vars(logs) | {"episodes": tuple(found)},
        splits=tuple(splits),
        columns=columns,
        missing=intake.missing == "mask" and any(np.isnan(each.table().features).any() for each in found),
        interval_s=intake.resample_s or float(f"{np.median(steps):.6g}"),
        margin=sum(each.length for each in whole) - sum(each.length for each in episodes),
    )


def named(reject: Reject, columns: Columns) -> Reject:
    """With the name of each column that its reason has by number."""

    def told(found: re.Match[str]) -> str:
        own = getattr(columns, "actions" if found[1] == "action" else found[1])
        number = int(found[2])
        return f"{found[0]} ({own[number].name})" if number < len(own) and own[number].name else found[0]

    return reject._replace(reason=re.sub(r"\b(features|action|context)\[(\d+)\]", told, reject.reason))


def _require_windows(
    episodes: Sequence[EpisodeView], splits: Sequence[Split | None], history: int, intake: IngestParams
) -> None:
    """Raise ValueError that says why where all observed episodes of train, or of test, are too short for a window."""
    longest = dict[Split, int]()
    pairs = zip(episodes, splits, strict=True)
    observed = [(episode, split) for episode, split in pairs if split is not None and episode.source == "observed"]
    for episode, split in observed:
        longest[split] = max(longest.get(split, 0), episode.length)
    for split, length in longest.items():
        if length <= history and split != "val":
            known = f"train.history ({history})" if history > 1 else "one"
            advice = [*_shortening([episode for episode, _ in observed], intake), "log longer episodes"]
            advice += ["lower train.history"] if history > 1 else []
            raise ValueError(
                f"no window in split {split}: its longest episode has {length} frames, expected more than {known}; "
                + "; or ".join(advice)
            )


def _shortening(observed: Sequence[EpisodeView], intake: IngestParams) -> Iterator[str]:
    """What may have made episodes so short, and what to do."""
    begins = dict[str, list[float]]()
    for episode in observed:
        begins.setdefault(episode.agent_id, []).append(episode.begin)
    steps = np.concatenate([np.diff(sorted(of_agent)) for of_agent in begins.values()])
    if len(steps) and all(each.length == 1 for each in observed) and np.median(steps) > intake.max_gap_s:
        yield (
            f"frames come {np.median(steps):g} s apart (median), and prepare.max_gap_s is {intake.max_gap_s:g}, which "
            "cuts there: raise it, or, where timestamps count ms, us or ns, divide them, as they are seconds"
        )
    if intake.max_length_s is not None:
        yield f"prepare.max_length_s is {intake.max_length_s:g}: raise it"
    if intake.resample_s is not None:
        yield f"prepare.resample_s is {intake.resample_s:g}: lower it"
    if intake.split_by == "time":
        yield f"prepare.split_by is time and prepare.margin {intake.margin} frames: lower it"


def _spread_out(episodes: Sequence[EpisodeView], splits: Sequence[Split | None]) -> list[Table]:
    """Observed train episodes of about as many frames as SAMPLED, the same in whatever order they come."""
    pairs = zip(episodes, splits, strict=True)
    train = [each for each, split in pairs if (each.source, split) == ("observed", "train") and each.length > 1]
    train.sort(key=lambda each: (each.agent_id, each.name, each.segment))
    every = max(1, sum(each.length for each in train) // SAMPLED)
    return [each.table() for each in train[::every]]


def _is_wide(tables: Sequence[Table]) -> bool:
    """Whether a feature usually moves by so little that float32 would lose it, at the size that it has."""
    changes = np.abs(np.concatenate([np.diff(table.features, axis=0) for table in tables]))
    largest = np.nanmax([np.nanmax(np.abs(table.features), axis=0, initial=0) for table in tables], axis=0)
    for change, size in zip(changes.T, largest.astype(np.float32), strict=True):
        moved = change[change > 0]
        if len(moved) and np.median(moved) <= FINE * np.spacing(size):
            return True
    return False
