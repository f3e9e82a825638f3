"""The default trust store is read once, before the fork, for all transports of httpx and httpx2.

They read it again for every transport, which takes 20 ms of CPU, and a client has four of them where proxies are set
for its schemes, as in every instance: more than all else of a cold start. A zygote imports this module after the
frameworks. A context that somebody asks for in any way of their own (`verify`, `cert`) is theirs alone.
"""

from __future__ import annotations

import os
import ssl
import sys
from typing import Any

CLIENTS = ("httpx", "httpx2")
LOCATIONS = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the variables that name another trust store


def share(client: str) -> None:
    """Let the transports of this client, a module that is imported, share one context, and make it now."""
    transports: Any = sys.modules.get(f"{client}._transports.default")
    create = getattr(transports, "create_ssl_context", None)
    if create is None:  # not imported, or a version that makes its contexts elsewhere
        return
    contexts: dict[Any, ssl.SSLContext] = {}

    def create_shared(*args: Any, **options: Any) -> ssl.SSLContext:
        if args or options.get("verify", True) is not True or options.get("cert") is not None:
            own: ssl.SSLContext = create(*args, **options)
            return own
        key = (*sorted(options.items()), *map(os.environ.get, LOCATIONS))
        if key not in contexts:
            contexts[key] = create(**options)
        return contexts[key]

    transports.create_ssl_context = create_shared
    create_shared(verify=True, cert=None, trust_env=True)


for _client in CLIENTS:
    share(_client)
