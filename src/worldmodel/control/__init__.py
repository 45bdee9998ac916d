"""Closed loop in a simulator: a bundle's planner beside whatever one would use without it."""
