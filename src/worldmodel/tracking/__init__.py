"""Runs and their results in MLflow and TensorBoard."""
