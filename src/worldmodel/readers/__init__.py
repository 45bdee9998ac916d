"""Logs of other formats -> episodes: one module a format, behind the Reader of source.py."""
