"""Whoever tries one wrong token after another is slowed down, by address and by what the tokens begin with.

A token that is right is never asked here, so nobody can lock its owner out. Tokens with a dot are signed (JWT): nobody
guesses those, all of them begin alike, and only the server knows whether one is right. They are not counted.
"""

from __future__ import annotations

import base64
import binascii
import math

from local.gateway.buckets import Buckets
from orchestrator_runtime.contract.errors import TooMany

PREFIX_BYTES = 12  # `orc_` and 48 random bits


def presented(authorization: bytes | None) -> bytes | None:
    """The token of an Authorization header field: a bearer's, or the password of a browser's; None without one."""
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(b" ")
    token = value.strip()
    if scheme.lower() == b"basic":
        try:
            token = base64.b64decode(token, validate=True).partition(b":")[2]
        except binascii.Error:  # garbage: a wrong token like any other
            return token
    return None if not token or b"." in token else token


class SignIns:
    """`at_once` failures cost nothing; after them one every `pause` seconds is let through."""

    def __init__(self, *, at_once: int, pause: float) -> None:
        self._by_address = Buckets(1 / pause, burst=at_once)
        self._by_prefix = Buckets(1 / pause, burst=at_once)

    @property
    def quiet(self) -> bool:
        """Whether nobody has failed lately."""
        return not self._by_address and not self._by_prefix

    def check(self, address: str, token: bytes, now: float) -> None:
        """Before a token that is not known here is tried. Raises `TooMany` (`sign_in_throttled`)."""
        wait = max(self._by_address.wait(address, now), self._by_prefix.wait(_prefix(token), now))
        if wait:
            raise TooMany(
                "Too many wrong tokens were tried from here, or like this one",
                code="sign_in_throttled",
                hint="Look at the token; one that is right is taken at once.",
                retry_after=math.ceil(wait),
            )

    def failed(self, address: str, token: bytes, now: float) -> None:
        """It was wrong."""
        self._by_address.take(address, now)
        self._by_prefix.take(_prefix(token), now)

    def forget(self, now: float) -> None:
        self._by_address.forget(now)
        self._by_prefix.forget(now)


def _prefix(token: bytes) -> str:
    return token[:PREFIX_BYTES].decode("latin-1")
