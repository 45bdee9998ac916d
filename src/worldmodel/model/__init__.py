"""The model, its losses and its training, the baselines it must beat, and its weights on disk."""
