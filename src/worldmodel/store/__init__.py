"""Prepared episodes on disk, NPZ or LMDB, and the manifest that lists them."""
