"""Model calls are recorded where they leave: at the HTTP transports that the OpenAI and Anthropic SDKs stand on.

`install` wraps the transports of httpx and httpx2, whichever is imported or will be; the server and the adapters call
it before an agent's code is loaded. A POST to an endpoint of OpenAI's or Anthropic's shape, on any host, made while a
run is executing, becomes a model step with its tokens. Its answer is durable before the agent gets the end of it, and
after a crash it is given from the journal. Nothing else is touched.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks import exchanges
from orchestrator_runtime.frameworks.calls import RecordedCall
from orchestrator_runtime.frameworks.current import current
from orchestrator_runtime.frameworks.exchanges import Exchange, Stream

CLIENTS = ("httpx", "httpx2")
IDEMPOTENCY_KEY = "idempotency-key"


def install() -> None:
    """Wrap the transports of HTTP clients that are imported, and of those that will be. A second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in CLIENTS:
        if name in sys.modules:
            _wrap(sys.modules[name])


class _Finder(MetaPathFinder):
    """Finds the clients as Python does, and wraps them right after their import."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in CLIENTS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _wrap(module)

    def __getattr__(self, name: str) -> Any:  # get_data, get_source and the like
        return getattr(self._loader, name)


def _wrap(module: ModuleType) -> None:
    blocking, asynchronous = module.HTTPTransport, module.AsyncHTTPTransport
    if hasattr(blocking.handle_request, "wrapped_by_orchestrator"):
        return
    handle, handle_async = blocking.handle_request, asynchronous.handle_async_request
    streams = _streams(module)

    def handle_request(transport: Any, request: Any) -> Any:
        call = _begin(request)
        if call is None:
            return handle(transport, request)
        if call.answer is not None:
            return _response(module, exchanges.from_answer(call.answer))
        try:
            response = handle(transport, request)
            if _is_stream(response):
                response.stream = streams[0](response, call)
                return response
            exchange = Exchange(response.status_code, dict(response.headers), b"".join(response.stream))
            response.close()
        except BaseException as error:
            call.fail_blocking(error)
            raise
        if exchange.succeeded:
            call.succeed_blocking(exchange.to_answer(), **exchange.facts())
        else:
            call.fail_blocking(exchange.error())
        return _response(module, exchange)

    async def handle_async_request(transport: Any, request: Any) -> Any:
        call = _begin(request)
        if call is None:
            return await handle_async(transport, request)
        if call.answer is not None:
            return _response(module, exchanges.from_answer(call.answer))
        try:
            response = await handle_async(transport, request)
            if _is_stream(response):
                response.stream = streams[1](response, call)
                return response
            body = b"".join([chunk async for chunk in response.stream])
            exchange = Exchange(response.status_code, dict(response.headers), body)
            await response.aclose()
        except BaseException as error:
            call.abandon(error)
            raise
        if exchange.succeeded:
            await call.succeed(exchange.to_answer(), **exchange.facts())
        else:
            await call.fail(exchange.error())
        return _response(module, exchange)

    handle_request.wrapped_by_orchestrator = True  # type: ignore[attr-defined]
    blocking.handle_request = handle_request
    asynchronous.handle_async_request = handle_async_request


def _begin(request: Any) -> RecordedCall | None:
    """The call that this request is; None if it is none that is recorded."""
    if request.method != "POST" or not request.url.path.endswith(exchanges.ENDPOINTS):
        return None
    active = current()
    if active is None or not hasattr(request, "_content"):  # a body that is not JSON in memory is no call of an SDK's
        return None
    active.model_calls += 1
    shown = exchanges.decode(request.content)
    name = str(shown.get("model", "model")) if isinstance(shown, dict) else "model"
    target = f"{request.url.host}{request.url.path} ".encode()
    call = RecordedCall(active, name, StepKind.MODEL, target + request.content, shown=shown)
    request.headers["accept-encoding"] = "identity"
    request.headers.setdefault(IDEMPOTENCY_KEY, call.idempotency_key)
    return call


def _is_stream(response: Any) -> bool:
    return 200 <= response.status_code < 300 and "event-stream" in response.headers.get("content-type", "")


def _response(module: ModuleType, exchange: Exchange) -> Any:
    """A response as if it had just come; its body is read from a stream, as of any other."""
    return module.Response(exchange.status, headers=exchange.kept_headers(), stream=module.ByteStream(exchange.body))


def _streams(module: ModuleType) -> tuple[type[Any], type[Any]]:
    """The two classes of recorded streams, which the client wants to be of its own kinds."""

    class Recorded(module.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, response: Any, call: RecordedCall) -> None:
            self._inner, self._call = response.stream, call
            self._stream = Stream(response.status_code, response.headers)
            self._is_open = True

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._inner:
                if self._stream.add(chunk):
                    self._end()
                yield chunk
            self._end()

        def _end(self) -> None:
            if self._is_open:
                self._is_open = False
                exchange = self._stream.exchange()
                self._call.succeed_blocking(exchange.to_answer(), **exchange.facts())

        def close(self) -> None:
            if self._stream.has_last_event():
                self._end()
            elif self._is_open:
                self._is_open = False
                self._call.fail_blocking(exchanges.StreamBrokenError())
            self._inner.close()

    class AsyncRecorded(module.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, response: Any, call: RecordedCall) -> None:
            self._inner, self._call = response.stream, call
            self._stream = Stream(response.status_code, response.headers)
            self._is_open = True

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._inner:
                if self._stream.add(chunk):
                    await self._end()
                yield chunk
            await self._end()

        async def _end(self) -> None:
            if self._is_open:
                self._is_open = False
                exchange = self._stream.exchange()
                await self._call.succeed(exchange.to_answer(), **exchange.facts())

        async def aclose(self) -> None:
            if self._stream.has_last_event():
                await self._end()
            elif self._is_open:
                self._is_open = False
                self._call.abandon(exchanges.StreamBrokenError())
            await self._inner.aclose()

    return Recorded, AsyncRecorded
