"""The logs as those who look for remarks see them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from worldmodel.core.params import IngestParams
from worldmodel.episodes.columns import NAMELESS, Columns
from worldmodel.linting.batch import Placed
from worldmodel.linting.facts import Facts
from worldmodel.linting.jumps import Jumps
from worldmodel.linting.ranges import Ranges, Wraps
from worldmodel.linting.remark import Remark
from worldmodel.linting.repeats import Repeats
from worldmodel.linting.sample import Sample
from worldmodel.logs.rollouts import shared


@dataclass(frozen=True)
class Limits:
    """What of the params decides whether logs can work."""

    intake: IngestParams
    history: int
    horizon: int


@dataclass(frozen=True)
class LintedLogs:
    """All observed episodes, cut as they will be for training."""

    facts: Facts
    sample: Sample
    wraps: Wraps
    jumps: Jumps
    repeats: Repeats
    limits: Limits
    meta_keys: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # not understood: file, line, count
    columns: Columns = NAMELESS

    @cached_property
    def placed(self) -> list[Placed]:
        """In the order of files and lines."""
        return sorted(self.facts.placed)

    @property
    def ranges(self) -> Ranges:
        return self.facts.ranges["feature"]

    @property
    def of_one_name(self) -> Iterable[list[Placed]]:
        """Pieces that share agent and name with others."""
        found = dict[tuple[str, str], list[Placed]]()
        for index in shared(each.identity for each in self.placed):
            found.setdefault(self.placed[index].identity, []).append(self.placed[index])
        return found.values()

    def features(self, numbers: Sequence[int], shown: int = 8) -> str:
        """By number, and by name where it is known; the first few."""
        named = ", ".join(map(self.named, numbers[:shown])) + (", ..." if len(numbers) > shown else "")
        return f"feature {named}" if len(numbers) == 1 else f"features {named}"

    def named(self, number: int) -> str:
        names = self.columns.features
        return f"{number} ({names[number].name})" if names and names[number].name else str(number)


Check = Callable[[LintedLogs], Iterator[Remark]]
