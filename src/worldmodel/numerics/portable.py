"""PyTorch on the CPU without Intel's MKL, whose bits depend on who made the processor, whatever it is told.

On AMD's processors it runs other code than on Intel's, and it lets some functions start from an approximation that each
maker rounds in its own way. NumPy takes over what PyTorch asks of it: products of matrices, from OpenBLAS, and
functions of one number. All else in PyTorch that a training calls is PyTorch's own, the same for all with AVX2.
"""

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kernel = Callable[..., Tensor]

AS_THEY_ARE = (torch.float32, torch.float64, torch.complex64, torch.complex128)
FUNCTIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
PRODUCTS = ("mm", "bmm", "mv", "dot")
SUMS = ("addmm", "baddbmm", "addmv")  # of a tensor and a product


@cache
def replace_mkl() -> torch.library.Library:
    """Give PyTorch these kernels, in this process and for good; the library holds them."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    kernels = {name: _applied(function) for name, function in FUNCTIONS.items()}
    kernels |= dict.fromkeys(PRODUCTS, _product) | dict.fromkeys(SUMS, _sum)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced is what this is for
        replace = partial(library.impl, dispatch_key="CPU", allow_override=True)
        for name, kernel in kernels.items():
            replace(name, kernel)
            replace(f"{name}.out", _into(kernel))
            if name not in PRODUCTS:
                replace(f"{name}_", _in_place(kernel))
    return library


def _product(left: Tensor, right: Tensor) -> Tensor:
    _require_alike(left, right)
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.asarray(_array(left) @ _array(right)))


def _sum(added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * added + alpha * left @ right; what is added counts for nothing where beta is 0, NaN or not."""
    product = _product(left, right)
    if alpha != 1:
        product *= alpha
    if beta:
        product += added if beta == 1 else beta * added
    return product


def _applied(function: Callable[[NDArray[Any]], NDArray[Any]]) -> Kernel:
    def kernel(given: Tensor) -> Tensor:
        exact = given if given.dtype in AS_THEY_ARE else given.to(torch.float32)
        with np.errstate(all="ignore"):
            found = torch.from_numpy(np.asarray(function(_array(exact))))
        return found.to(given.dtype) if given.is_floating_point() else found

    return kernel


def _into(kernel: Kernel) -> Kernel:
    def into(*given: Tensor, out: Tensor, **options: float) -> Tensor:
        found = kernel(*given, **options)
        if out.shape != found.shape:
            out.resize_(found.shape)
        return out.copy_(found)

    return into


def _in_place(kernel: Kernel) -> Kernel:
    def in_place(given: Tensor, *others: Tensor, **options: float) -> Tensor:
        return given.copy_(kernel(given, *others, **options))

    return in_place


def _array(tensor: Tensor) -> NDArray[Any]:
    """The same memory."""
    found: NDArray[Any] = tensor.detach().numpy()
    return found


def _require_alike(left: Tensor, right: Tensor) -> None:
    """NumPy would broadcast, or promote, where PyTorch refuses."""
    inner = right.shape[-2] if right.ndim > 1 else right.shape[0]
    if left.dtype != right.dtype or left.shape[-1] != inner or left.shape[:-2] != right.shape[:-2]:
        given = " by ".join(f"{tuple(each.shape)} of {each.dtype}" for each in (left, right))
        raise RuntimeError(f"{given}: these cannot be multiplied")
