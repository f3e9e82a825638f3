"""The /etc of a sandbox: what programs must find there, and of the host's only certificates, links and time zone."""

from __future__ import annotations

from collections.abc import Mapping

HOST_NAME = "sandbox"

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
    """Path → text. The only account is our own; names resolve from /etc/hosts, everything else is the proxy's."""
    return {
        "/etc/passwd": f"agent:x:{uid}:{gid}::/tmp:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
        "/etc/group": f"agent:x:{gid}:\nnogroup:x:65534:\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "/etc/hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
        "/etc/hostname": f"{HOST_NAME}\n",
        "/etc/resolv.conf": "",
    }
