"""Grants: roles that somebody has on one agent only; and to whom an agent belongs."""
