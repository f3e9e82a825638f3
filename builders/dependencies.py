"""What an agent's folder says it depends on."""

from __future__ import annotations

BUILD_SECRETS = ("UV_INDEX_", "PIP_INDEX")


def is_build_secret(name: str) -> bool:
    """Whether a secret of the organization becomes part of a build's environment (credentials of package indexes)."""
    return name.startswith(BUILD_SECRETS)
