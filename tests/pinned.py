"""Imported first by whatever the tests start: numbers are computed alike on every processor, by one worker."""

import os

from worldmodel.numerics.pinning import pin

assert pin(), "NumPy or PyTorch was loaded before tests/pinned.py"
os.environ.setdefault("WORLDMODEL_JOBS", "1")  # tests themselves run side by side
