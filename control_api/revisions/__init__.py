"""Revisions: immutable, numbered results of deployments."""
