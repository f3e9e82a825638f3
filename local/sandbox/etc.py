"""The /etc of a sandbox: what programs must find there, and of the host's only certificates, links and time zone."""

from __future__ import annotations

from collections.abc import Mapping

HOST_NAME = "sandbox"
NAMESERVER = "10.0.2.3"  # of the user-mode network; where there is none, asking it fails at once

# Taken read-only from the host where they exist.
FROM_HOST = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)


def files(uid: int, gid: int) -> Mapping[str, str]:
    """Path → text. The only account is our own; names that are not in /etc/hosts are for the name server."""
    return {
        "/etc/passwd": f"agent:x:{uid}:{gid}::/tmp:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
        "/etc/group": f"agent:x:{gid}:\nnogroup:x:65534:\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "/etc/hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
        "/etc/hostname": f"{HOST_NAME}\n",
        "/etc/resolv.conf": f"nameserver {NAMESERVER}\n",
    }
