"""One HTML page about the trained model, from what the pipeline left."""
