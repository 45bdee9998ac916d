"""From log lines to batches: rows, episodes, splits, scales, packed arrays, windows."""
