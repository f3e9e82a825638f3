"""A master key whose bytes this process has, from a file or from the environment."""

from __future__ import annotations

from control_api.store import sealing


class LocalKey:
    """A `domain.ports.MasterKey` of 32 bytes. Its id is derived from them, so it is the same wherever it is kept."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == sealing.KEY_BYTES
        self._key = key
        self.id = sealing.derive(key, b"id")[:8].hex()

    def wrap(self, content: bytes, context: str) -> bytes:
        return sealing.wrap(self._key, content, context)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        return sealing.unwrap(self._key, wrapped, context)
