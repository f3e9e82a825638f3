"""Backups of the database, taken while everything runs."""
