"""Invitations: how people come into an organization."""
