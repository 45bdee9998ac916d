"""How numbers are computed: threads, instruction set, device. Call `configure` before the first tensor is computed."""

import os
import platform
import sys
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from worldmodel.core.params import Compute
from worldmodel.numerics.pinning import BEYOND_AVX2, can_be_pinned
from worldmodel.numerics.portable import replace_mkl

# PyTorch's own kernels, and what is left of MKL, choose code by processor at their first call, unless told otherwise.
PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2,STRICT"}

SAME_KIND = "processors of the same kind, if anywhere"


_configured: list[Compute] = []  # the latest one, of this process


class TooLate(ValueError):
    """This process has chosen its instructions: what is to be portable must run in another one."""


def configure(compute: Compute, quiet: bool = False) -> torch.device:
    """Fix threads and instruction set, return the device; unless quiet, say where portable bits hold for less.

    Raises ValueError where the device is not there, TooLate where the instruction set was chosen before.
    """
    if compute.numerics == "portable" and can_be_pinned():
        _require_avx2()
        if compute.device == "cpu":
            replace_mkl()
            torch.backends.cuda.enable_flash_sdp(False)  # attention on the CPU asks MKL behind PyTorch's back
    elif compute.numerics == "portable" and not quiet:
        _say_family()
    torch.set_num_threads(compute.threads)
    threadpool_limits(compute.threads, user_api="blas")
    torch.use_deterministic_algorithms(True)
    # Filling new memory costs a tenth of a step, and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("train.device is cuda, and PyTorch sees no CUDA device here; use train.device: cpu")
    _configured[:] = [compute]
    return torch.device(compute.device)


def configure_as() -> Callable[[], object]:
    """What makes another process compute as this one does, and say nothing again."""
    return partial(configure, _configured[0], quiet=True) if _configured else partial(bool)


def bits(compute: Compute, device: torch.device) -> dict[str, str]:
    """What computes, and where the same versions of all libraries would compute the same bits."""
    if device.type == "cuda":
        return {"computed_by": f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}", "same_on": SAME_KIND}
    found = torch.backends.cpu.get_cpu_capability()
    portable = compute.numerics == "portable" and can_be_pinned() and found == "AVX2"
    return {"computed_by": found, "same_on": "every x86-64 processor with AVX2" if portable else SAME_KIND}


def _require_avx2() -> None:
    os.environ.update(PORTABLE)
    found = torch.backends.cpu.get_cpu_capability()
    if found not in ("AVX2", "DEFAULT"):
        raise TooLate(f"train.numerics is portable, and PyTorch has already computed with {found} in this process")
    if beyond := _beyond_avx2():
        raise TooLate(f"train.numerics is portable, and NumPy was loaded with {', '.join(beyond)} in this process")


def _beyond_avx2() -> list[str]:
    """Instructions beyond AVX2 that NumPy computes with in this process, as it calls them."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return [name for name in BEYOND_AVX2 if name in found]


@cache
def _say_family() -> None:
    machine = platform.machine() or "this processor"
    print(
        f"train.numerics: portable means the same bits on x86-64 with AVX2; on {machine} they hold for its family",
        file=sys.stderr,
    )
