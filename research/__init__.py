"""Studies, published models beside ours, benchmarks: `python -m research.NAME --help` says what each does."""

from worldmodel.numerics.pinning import pin

pin()  # before a study loads NumPy
