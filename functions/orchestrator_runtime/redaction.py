"""Keeps the values of an agent's secrets out of what leaves its instance by itself: log lines and problems."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

SHORTEST = 6  # characters; a shorter value would be found everywhere
HIDDEN = "[secret]"


def create_redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that hides each of the values in a text: as it is, in JSON, in a URL, in Base64."""
    found = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
    if not found:
        return str
    pattern = re.compile("|".join(re.escape(form) for form in sorted(found, key=len, reverse=True)))
    return lambda text: pattern.sub(HIDDEN, text)


def _forms(secret: str) -> Iterable[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret.encode()).decode().rstrip("=")
