"""Synthetic episodes: the teacher and its rollouts, a simulator of the user's, repeated windows; how real they are."""
