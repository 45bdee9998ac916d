"""From a trained model to the files that users take away."""
