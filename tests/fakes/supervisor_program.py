"""`python -m tests.fakes.supervisor_program`: takes the arguments of `local.supervisor`, holds its lock, answers
/healthz, and ends on SIGTERM; `FAIL=1` in the environment makes it say why and exit instead. No platform behind it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from domain.home import Home


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    given = parser.parse_args()
    if os.environ.get("FAIL"):
        sys.exit("the disk is full")
    home = Home(given.home)
    held = os.open(home.supervisor_pid, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(held, f"{os.getpid()}\n".encode())
    with HTTPServer(("127.0.0.1", 0), _Healthy) as server:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        home.address.write_text(f"http://127.0.0.1:{server.server_port}\n")
        os.write(given.ready_fd, home.address.read_bytes())
        os.close(given.ready_fd)
        server.serve_forever()


if __name__ == "__main__":
    main()
