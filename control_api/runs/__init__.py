"""Runs: list, look inside, follow, cancel, retry. The journal decides; this is its window."""
