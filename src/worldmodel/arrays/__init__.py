"""Arrays that training reads: scales, packed episodes, windows, batches with an exact share of dreams."""
