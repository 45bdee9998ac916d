"""Which instructions NumPy and PyTorch compute with. Both choose by the processor, when they are loaded: `pin` first.

NumPy's loops and its OpenBLAS then stay with AVX2 on every x86-64 processor that has it, and answer the same bits on
all of them. How many threads OpenBLAS has changes bits as well: one, until `numerics.setup.configure` says otherwise.
Processors of another family are left alone: their bits hold for that family.
"""

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from worldmodel.core import parent  # noqa: F401  (notes who started this process, before anything takes time)

BEYOND_AVX2 = ("X86_V4", "AVX512_ICL", "AVX512_SPR")  # as NumPy calls them
MARK = "WORLDMODEL_PINNED"  # set together with the rest: a process that finds it began with all of them
AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(BEYOND_AVX2),
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    MARK: "avx2",
}
CHOOSE_WHEN_LOADED = ("numpy", "torch")


def pin() -> bool:
    """Make this process, and those that it starts, compute portably. False where NumPy or PyTorch was loaded before."""
    if pinned():
        return True
    if any(name in sys.modules for name in CHOOSE_WHEN_LOADED):
        return False
    os.environ.update(AVX2)
    return True


def pinned() -> bool:
    """Whether this process began, or has gone on, as `pin` leaves it; true where there is nothing to pin."""
    return not can_be_pinned() or os.environ.get(MARK) == AVX2[MARK]


def pinned_environment() -> Mapping[str, str]:
    """The environment of a process that is to compute portably from its first moment on."""
    return os.environ | (AVX2 if can_be_pinned() else {})


@cache
def can_be_pinned() -> bool:
    """x86-64 with AVX2; where the system does not list what its processor can do, no."""
    listed = Path("/proc/cpuinfo")
    if platform.machine().lower() not in ("x86_64", "amd64") or not listed.exists():
        return False
    return "avx2" in listed.read_text(encoding="utf-8", errors="replace").split()
