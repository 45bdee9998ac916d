"""Processes whose environment says nothing of the instruction set, until they settle how numbers are computed."""

import os
import subprocess
import sys
from pathlib import Path

from worldmodel.numerics.pinning import AVX2
from worldmodel.numerics.setup import PORTABLE

CODE = """
from worldmodel.numerics.pinning import pin; pin()
import numpy as np
import torch
from worldmodel.core.params import Compute
from worldmodel.numerics.setup import configure

{before}
device = configure(Compute(history=1, threads={threads}, numerics="{numerics}", device="cpu"))
{after}
"""


def run_unsettled(code: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that computes with whatever the processor has."""
    environment = {name: value for name, value in os.environ.items() if name not in PORTABLE | AVX2}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=500,
    )


def run_settled(
    numerics: str, after: str, before: str = "", threads: int = 1, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run code before and after a process settles; `device`, `np` and `torch` are at hand in the latter."""
    return run_unsettled(CODE.format(before=before, threads=threads, numerics=numerics, after=after), **variables)
