"""What every stage stands on: its outer edge, numerics, whole files, hashes, clocks."""
