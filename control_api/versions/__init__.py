"""Versions: uploaded folders, immutable and addressed by their content digest."""
