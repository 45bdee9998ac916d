"""Imported first by whatever the tests start: numbers are computed alike on every processor, also in what it starts."""

import os
from pathlib import Path

from worldmodel.numerics.pinning import pin

assert pin(), "NumPy or PyTorch was loaded before tests/pinned.py"
SRC = Path(__file__).resolve().parent.parent / "src"
os.environ["PYTHONPATH"] = str(SRC)  # so that `python -m worldmodel` is this checkout's
