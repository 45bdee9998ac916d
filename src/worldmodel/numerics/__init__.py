"""How numbers are computed, so that they are the same on every machine."""
