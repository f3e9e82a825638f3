"""The ways out: every connection that leaves an instance is checked, counted and made here, or its packets are."""
