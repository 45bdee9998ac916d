"""Whether the memory that params ask for is there, before any of it is taken."""

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from worldmodel.core.yaml12 import cut

PROC, CGROUPS = Path("/proc/self"), Path("/sys/fs/cgroup")


class Need(NamedTuple):
    size: int  # bytes of one process
    keys: str  # that it follows from, with their values, the one to lower first in front
    processes: int = 1  # that take so much at once


class Ceiling(NamedTuple):
    size: int  # bytes
    whose: str
    of_one: bool = False  # of each process, not of all together


def require(stage: str, needs: Sequence[Need], ceilings: Sequence[Ceiling] | None = None) -> None:
    """Raises ValueError where a stage needs more than this machine, or what limits this process, has.

    `needs` are estimates, right to a factor of two or so: what they let pass may still run out of memory.
    """
    for ceiling in _ceilings() if ceilings is None else ceilings:
        at_once = [each.size * (1 if ceiling.of_one else each.processes) for each in needs]
        if sum(at_once) > ceiling.size:
            most = needs[at_once.index(max(at_once))]
            several = f", in {most.processes} processes (WORLDMODEL_JOBS)" if most.processes > 1 else ""
            raise ValueError(
                f"{stage} would take about {_gigabytes(sum(at_once))} of memory, and {ceiling.whose} "
                f"{_gigabytes(ceiling.size)}; most of it is for {cut(most.keys, 300)}{several}: lower the first of them"
            )


def _ceilings() -> Iterator[Ceiling]:
    with suppress(ValueError, OSError):
        yield Ceiling(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine has")
    with suppress(OSError):
        yield from (Ceiling(size, "the cgroup of this process has") for size in _cgroups(PROC / "cgroup", CGROUPS))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        taken = 0
        with suppress(OSError):
            taken = int((PROC / "statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        yield Ceiling(max(limit - taken, 0), "`ulimit -v` leaves a process", of_one=True)


def _cgroups(own: Path, mounted: Path) -> Iterator[int]:
    """Limits of this process's groups and of those around them, in bytes; of version 1 and 2."""
    for line in own.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError):
                text = (folder / name).read_text(encoding="utf-8").strip()
                if text.isdecimal():
                    yield int(text)
            if folder == top:
                break


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.{0 if size > 1e11 else 1}f} GB"
