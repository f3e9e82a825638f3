"""Builds: one attempt to make the environment of a version, with its log."""
