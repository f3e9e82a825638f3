"""Runs programs that are not ours where they can neither see nor harm anything: see README.md."""
