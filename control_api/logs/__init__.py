"""Logs: what instances of agents wrote, as JSON lines."""
