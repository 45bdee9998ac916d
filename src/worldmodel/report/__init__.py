"""One HTML page about the trained model."""
