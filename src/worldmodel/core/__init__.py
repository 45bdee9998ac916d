"""What every stage stands on: params, whole files, hashes, locks, run records, library versions."""
