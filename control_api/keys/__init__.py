"""API keys: each stands for a principal in one organization, and may be narrower and end earlier than that."""
