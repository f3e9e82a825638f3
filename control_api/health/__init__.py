"""Whether the server can do its work, and which part cannot."""
