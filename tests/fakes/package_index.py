"""A package index on this machine's loopback (the simple API, PEP 503) with packages made of a few lines."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def wheel(name: str, version: str, *, requires: Iterable[str] = (), **modules: str) -> tuple[str, bytes]:
    """File name and content of a wheel with these modules; without any it has one of its own name."""
    modules = modules or {name: f"VERSION = {version!r}\n"}
    info = f"{name}-{version}.dist-info"
    files = {f"{module}.py": text for module, text in modules.items()}
    files[f"{info}/METADATA"] = "\n".join(
        [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {one}" for one in requires),
        ]
    )
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", target.getvalue()


def source(name: str, version: str, **files: str) -> tuple[str, bytes]:
    """File name and content of a source distribution with these files (`__` for a slash, `_dot_` for a dot)."""
    target = io.BytesIO()
    texts = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    texts |= {path.replace("__", "/").replace("_dot_", "."): text for path, text in files.items()}
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for path, text in texts.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", target.getvalue()


@dataclass(slots=True)
class PackageIndex:
    """`password`: what HTTP basic authentication asks for, if anything; `asked` are the paths of all requests."""

    files: dict[str, bytes] = field(default_factory=dict)
    password: str = ""
    down: bool = False  # every request is answered 503
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def add(self, *packages: tuple[str, bytes]) -> None:
        self.files.update(packages)

    def page(self, name: str) -> str:
        links = (
            f'<a href="/files/{file}#sha256={hashlib.sha256(content).hexdigest()}">{file}</a>'
            for file, content in self.files.items()
            if file.split("-")[0].lower().replace("_", "-") == name
        )
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"


@contextmanager
def package_index() -> Iterator[PackageIndex]:
    index = PackageIndex()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            wanted = "Basic " + base64.b64encode(f"user:{index.password}".encode()).decode()
            kind, _, name = self.path.strip("/").partition("/")
            if index.down:
                self._answer(503, b"")
            elif index.password and self.headers.get("authorization") != wanted:
                self._answer(401, b"")
            elif kind == "simple" and "</a>" in (page := index.page(name.strip("/"))):
                self._answer(200, page.encode(), "text/html")
            elif kind == "files" and name in index.files:
                self._answer(200, index.files[name])
            else:
                self._answer(404, b"")

        do_HEAD = do_GET  # noqa: N815 - the base class asks for this name

        def _answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
            """The tests look at `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield index
        server.shutdown()
