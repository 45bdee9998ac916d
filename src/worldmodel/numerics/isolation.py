"""A function that computes portably wherever it is called from: a notebook, a program that has loaded NumPy before.

How NumPy and PyTorch compute is chosen when they are loaded. In a process that did not begin with `pin`, or has
computed otherwise already, the function runs in a process of its own, which does begin so.
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from joblib.externals.loky import ProcessPoolExecutor

from worldmodel.core.parent import end_with
from worldmodel.core.terminal import variables
from worldmodel.numerics.pinning import AVX2, pinned
from worldmodel.numerics.setup import TooLate

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def portable(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Of a module's function that calls `configure` first. Arguments and result travel between the processes."""

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if pinned():
            try:
                return function(*args, **kwargs)
            except TooLate:
                pass  # nothing was done yet
        with ProcessPoolExecutor(1, env=AVX2 | variables(), initializer=end_with, initargs=([os.getpid()],)) as pool:
            result: Result = pool.submit(call, *args, **kwargs).result()
            return result

    return call
