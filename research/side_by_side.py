"""Cases of a study side by side, on this machine or a cluster, each on one thread and in portable numbers."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from worldmodel.core.jobs import VARIABLE, run_all
from worldmodel.numerics.pinning import pinned_environment

Result = TypeVar("Result")


def side_by_side(function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """function(*call) in the order of calls, `jobs` at once; without progress bars of theirs."""
    os.environ.update({**pinned_environment(), VARIABLE: str(jobs), "TQDM_DISABLE": "1"})
    yield from run_all(function, calls)
