"""Sessions: the conversations that runs name."""
