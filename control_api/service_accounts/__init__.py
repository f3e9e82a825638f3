"""Service accounts: principals that are programs, with a role and keys of their own."""
