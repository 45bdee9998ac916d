"""Tables that are gone over batch by batch: the same results in the same order, whichever process reads a batch."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from worldmodel.episodes.table import Table

Result = TypeVar("Result")
Look = Callable[[Iterable[Table], int], Iterator[Result]]  # given tables, and the row of the first frame among all


@runtime_checkable
class Batched(Protocol):
    """Tables in batches; other processes may read them, to which `look` and its results travel."""

    def apply(self, look: Look[Result]) -> Iterator[Result]:
        """What `look` finds in each batch, in order."""
        ...


def applied(tables: Iterable[Table] | Batched, look: Look[Result]) -> Iterator[Result]:
    """What `look` finds; tables that are no Batched are one batch."""
    return tables.apply(look) if isinstance(tables, Batched) else look(tables, 0)
