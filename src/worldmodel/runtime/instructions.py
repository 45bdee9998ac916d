"""Which instructions NumPy computes with. It chooses when it is loaded, by the processor: import this module before it.

NumPy's loops and its OpenBLAS stay with AVX2 on every processor that has it, and so answer the same bits on all of
them. How many threads OpenBLAS has changes bits as well: one, until `numerics.settle` says otherwise.
"""

import os
from pathlib import Path

BEYOND_AVX2 = ("X86_V4", "AVX512_ICL", "AVX512_SPR")  # as NumPy calls them
AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(BEYOND_AVX2),
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
}
PROCESSORS = Path("/proc/cpuinfo")

if PROCESSORS.exists() and "avx2" in PROCESSORS.read_text(encoding="utf-8", errors="replace").split():
    os.environ.update(AVX2)
