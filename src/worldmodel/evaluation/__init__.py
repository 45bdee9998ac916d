"""What the exported model is worth on held-out episodes, beside the baselines."""
