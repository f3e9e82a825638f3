"""Organizations: what they are called, who is in them, and the credentials that follow from that."""
