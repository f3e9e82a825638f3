"""The way out: every connection that leaves an instance is checked, counted and made here."""
