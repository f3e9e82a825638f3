"""Agents: what exists, what it serves, how its calls are split, its live state, its logs; and its end."""
