"""Frames and episodes: the checks that make them valid, and a temporary store."""
