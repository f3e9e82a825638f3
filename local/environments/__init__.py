"""The Builder port on this machine: locked virtual environments, one per organization and lock digest."""
