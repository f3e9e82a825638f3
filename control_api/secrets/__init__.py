"""Secrets: values by name that can be set, used and removed, but never read back."""
