"""Deployments: the wish that an agent serves a version, and what became of it. The reconciler fulfils it."""
