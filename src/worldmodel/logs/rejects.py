"""Refused rows: by file, line and reason, and counted by reason."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from worldmodel.core.tables import write_csv

REJECTS = "rejects.csv"
SHOWN_REJECTS = 20
# Patterns of what differs between reasons of one kind, and their replacements.
_DETAILS = (
    (re.compile(r"^episode\[\d+\]: "), ""),
    (re.compile(r"^(not JSON|not text|not UTF-8|unreadable (?:gzip |zstd |)from here on): .*"), r"\1"),
    (re.compile(r"^(\w+\[)\d+(\](?: \([^)]*\))?: )(?!missing)"), r"\1\2"),
    (re.compile(r'found (?:"(?:[^"\\]|\\.)*(?:"|\.\.\.)|.*?), (?=expected )'), ""),
    (re.compile(r"more than \S+, the time of"), "more than the time of"),
    (re.compile(r'"(?:[^"\\]|\\.)*"'), "..."),
    (re.compile(r"(the same lines as) .*,"), r"\1 another file,"),
)


class Reject(NamedTuple):
    file: str  # posix path within the folder that was read
    line: int  # from 1
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


_MISSING = re.compile(r"^(?:episode\[\d+\]: )?(features\[.*?)(?: and \d+ more)?(: missing .*)")


@lru_cache(4096)
def kinds_of(reason: str) -> list[str]:
    """The reason without details of its row; of missing readings one for each feature."""
    if missing := _MISSING.match(reason):
        return [f"{feature}{missing[2]}" for feature in missing[1].split(", ")]
    for pattern, stand_in in _DETAILS:
        reason = pattern.sub(stand_in, reason)
    return [reason]


def by_reason(rejects: Iterable[Reject]) -> list[tuple[str, int]]:
    """Kinds of reasons and how many rows they refused, the most frequent first."""
    counts = Counter(kind for reject in rejects for kind in kinds_of(reject.reason))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def shown_rejects(rejects: Sequence[Reject]) -> list[str]:
    """The first rejects, a line each; where there are more, also counts by reason."""
    shown = [str(reject) for reject in rejects[:SHOWN_REJECTS]]
    if len(rejects) <= SHOWN_REJECTS:
        return shown
    more = f"... and {len(rejects) - SHOWN_REJECTS} more; by reason:"
    return [*shown, more, *(f"{count:>8} {kind}" for kind, count in by_reason(rejects))]


def require_few_rejects(rejects: Sequence[Reject], rows: int, max_rejected_share: float) -> None:
    """Raise ValueError where more than that share of the rows, or every row, was refused."""
    count = len(rejects)
    if count < rows and count <= max_rejected_share * rows:
        return
    raise ValueError(
        f"{count} of {rows} rows are bad ({count / rows:.2%}), "
        f"prepare.max_rejected_share allows {max_rejected_share:.2%}:\n"
        + "".join(f"{line}\n" for line in shown_rejects(rejects))
        + "fix these rows, or raise prepare.max_rejected_share to go on without them"
    )


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    write_csv(path, Reject._fields, rejects)
