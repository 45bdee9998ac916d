"""Closed loops: what a planner on the bundle earns in a simulator, beside all that could drive in its place."""
