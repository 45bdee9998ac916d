"""The model, its losses and its training, the floors it must beat, and its weights on disk."""
