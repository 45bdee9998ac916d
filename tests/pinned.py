"""Imported first by whatever the tests start: numbers are computed alike on every processor."""

from worldmodel.numerics.pinning import pin

assert pin(), "NumPy or PyTorch was loaded before tests/pinned.py"
