"""How numbers are computed: threads, instruction set, device. Call `settle` before the first tensor is computed."""

import os

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from worldmodel.config.params import Compute
from worldmodel.runtime.instructions import BEYOND_AVX2
from worldmodel.runtime.portable import replace_mkl

# PyTorch's own kernels, and what is left of MKL, choose code by processor at their first call, unless told otherwise.
PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2,STRICT"}

SAME_KIND = "processors of the same kind, if anywhere"


def settle(compute: Compute) -> torch.device:
    """Fix threads and instruction set, return the device.

    Raises ValueError where the device is not there, or where it is too late to choose the instruction set.
    """
    if compute.numerics == "portable":
        os.environ.update(PORTABLE)
        found = torch.backends.cpu.get_cpu_capability()
        if found not in ("AVX2", "DEFAULT"):
            raise ValueError(
                f"train.numerics is portable, and this process has already computed with {found}: "
                f"start it with ATEN_CPU_CAPABILITY=avx2, or use train.numerics: fast"
            )
        if beyond := _beyond_avx2():
            raise ValueError(
                f"train.numerics is portable, and NumPy was loaded with {', '.join(beyond)}: "
                f"import worldmodel.runtime.instructions before NumPy, or use train.numerics: fast"
            )
        if compute.device == "cpu":
            replace_mkl()
            torch.backends.cuda.enable_flash_sdp(False)  # attention on the CPU asks MKL behind PyTorch's back
    torch.set_num_threads(compute.threads)
    threadpool_limits(compute.threads, user_api="blas")
    torch.use_deterministic_algorithms(True)
    # Filling new memory costs a tenth of a step, and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("train.device is cuda, and PyTorch sees no CUDA device here; use train.device: cpu")
    return torch.device(compute.device)


def bits(compute: Compute, device: torch.device) -> dict[str, str]:
    """What computes, and where the same versions of all libraries would compute the same bits."""
    if device.type == "cuda":
        return {"computed_by": f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}", "same_on": SAME_KIND}
    found = torch.backends.cpu.get_cpu_capability()
    portable = compute.numerics == "portable" and found == "AVX2"
    return {"computed_by": found, "same_on": "every x86-64 processor with AVX2" if portable else SAME_KIND}


def _beyond_avx2() -> list[str]:
    """Instructions beyond AVX2 that NumPy computes with in this process, as it calls them."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return [name for name in BEYOND_AVX2 if name in found]
