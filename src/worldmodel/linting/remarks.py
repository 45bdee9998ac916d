"""A remark, and the logs as those who look for remarks see them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from worldmodel.core.text import escaped
from worldmodel.episodes.temporary_store import EpisodeView
from worldmodel.linting.sample import Extremes, Sample, sample_of


@dataclass(frozen=True)
class Remark:
    """Something allowed and probably wrong, at the first place where it stands."""

    kind: str
    message: str  # what was found, what it means, what to do
    count: int = 1
    file: str = ""
    line: int = 0  # in the file, from 1; 0 where it is about more than a line
    episode: str = ""

    def __str__(self) -> str:
        place = ":".join([self.file, *([str(self.line)] if self.line else [])])
        where = [part for part in (place, f"episode {self.episode}" if self.episode else "") if part]
        return f"{', '.join(where) or 'logs'}: {self.kind}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Placed:
    """An observed episode and where it begins."""

    file: str
    line: int
    episode: EpisodeView
    returns: int = 0  # how many times it goes on behind frames of another one of its agent

    def remark(self, kind: str, message: str, count: int = 1) -> Remark:
        return Remark(kind, message, count, self.file, self.line, escaped(self.episode.name))


@dataclass(frozen=True)
class Limits:
    """What of the params decides whether logs can work."""

    max_gap_s: float
    history: int
    horizon: int


@dataclass(frozen=True)
class LintedLogs:
    """All observed episodes, in the order of files and lines."""

    placed: Sequence[Placed]
    limits: Limits
    unread: Sequence[str] = ()  # files of the folder that no reader takes
    meta_keys: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # not understood: file, line, count

    @cached_property
    def sample(self) -> Sample:
        return sample_of([each.episode for each in self.placed])

    @cached_property
    def extremes(self) -> Extremes:
        return Extremes.of((each.episode for each in self.placed), self.sample.features.shape[1])

    @cached_property
    def by_agent_and_file(self) -> dict[tuple[str, str], list[Placed]]:
        found = defaultdict[tuple[str, str], list[Placed]](list)
        for each in self.placed:
            found[each.episode.agent_id, each.file].append(each)
        return found

    @cached_property
    def by_identity(self) -> dict[str, list[Placed]]:
        """Segments of one episode, by identity."""
        found = defaultdict[str, list[Placed]](list)
        for each in self.placed:
            found[each.episode.identity].append(each)
        return found


class Check(Protocol):
    def __call__(self, logs: LintedLogs) -> Iterator[Remark]: ...


def columns(numbers: Sequence[int], shown: int = 8) -> str:
    """Features by number, the first few."""
    named = ", ".join(map(str, numbers[:shown])) + (", ..." if len(numbers) > shown else "")
    return f"feature {named}" if len(numbers) == 1 else f"features {named}"
