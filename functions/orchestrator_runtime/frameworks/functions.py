"""Functions in the manner of functions-framework: http, cloud_event, typed (and their aio kinds), background events.

The package is the agent's own: it is looked at only where the agent has imported it, and nothing of it is imported
here. Its functions get its request types, and answer by the rules of Flask or Starlette.
"""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from orchestrator_runtime.contract.errors import BadInput, Unprocessable
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Call, Input
from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.frameworks.entrypoint import describe
from orchestrator_runtime.frameworks.threads import Threads
from orchestrator_runtime.frameworks.values import BINARY, EVENT, to_answer

PACKAGE = "functions_framework"
SIGNATURE = "FUNCTION_SIGNATURE_TYPE"  # its environment variable for functions that no decorator describes
NOTHING = Answer(status=204)


def load(function: Callable[..., Any], threads: Threads) -> Agent | None:
    """The agent, if the function is of one of these kinds."""
    registry = sys.modules.get(f"{PACKAGE}._function_registry")
    name = getattr(function, "__name__", "")
    kind = registry.REGISTRY_MAP.get(name) if registry is not None else None
    if kind is None:
        kind = "event" if _is_background(function) else None
        kind = kind or os.environ.get(SIGNATURE) if registry is not None or kind else None
    if kind == "http":
        is_asgi = registry is not None and name in getattr(registry, "ASGI_FUNCTIONS", ())
        return StarletteFunction(function, threads) if is_asgi else FlaskFunction(function, threads)
    if kind == "cloudevent":
        return EventFunction(function, threads)
    if kind == "event":
        return BackgroundFunction(function, threads)
    if kind == "typed" and registry is not None:
        return TypedFunction(function, threads, registry.INPUT_TYPE_MAP[name])
    return None


def _is_background(function: Callable[..., Any]) -> bool:
    """`def f(data, context)`, as its tutorials write it."""
    try:
        return [*inspect.signature(function).parameters][1:] == ["context"]
    except (TypeError, ValueError):  # a callable of C without a signature
        return False


class Function:
    """What all kinds share: the function is called with `arguments`, and `answer` makes something of its result."""

    resumes = False

    def __init__(self, function: Callable[..., Any], threads: Threads) -> None:
        self._function = function
        self._threads = threads
        self._is_coroutine = inspect.iscoroutinefunction(function)

    async def run(self, call: Call) -> Answer:
        with running(call):
            return self.answer(await self._call(*self.arguments(call.input)))

    def arguments(self, given: Input) -> tuple[Any, ...]:
        raise NotImplementedError

    def answer(self, result: Any) -> Answer:
        return NOTHING if result is None else to_answer(result)

    async def _call(self, *arguments: Any) -> Any:
        if self._is_coroutine:
            return await self._function(*arguments)
        return await self._threads.call(self._function, *arguments)


class FlaskFunction(Function):
    """`@http`: within a request of Flask's, so that everything of Flask works."""

    def __init__(self, function: Callable[..., Any], threads: Threads) -> None:
        super().__init__(function, threads)
        self._app = create_flask_app()

    def arguments(self, given: Input) -> tuple[Any, ...]:
        return (create_environ(given),)

    async def _call(self, *arguments: Any) -> Any:
        return await self._threads.call(self._respond, *arguments)

    def _respond(self, environ: dict[str, Any]) -> Answer:
        flask = sys.modules["flask"]
        refusal = sys.modules["werkzeug.exceptions"].HTTPException
        with self._app.request_context(environ):
            try:
                response = self._app.make_response(self._function(flask.request._get_current_object()))  # noqa: SLF001
            except refusal as error:  # flask.abort
                response = self._app.make_response(error.get_response(environ))
            return _of_response(response.get_data(), response)


class StarletteFunction(Function):
    """`@aio.http`."""

    def arguments(self, given: Input) -> tuple[Any, ...]:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in _headers(given).items()]
        scope = {
            "type": "http",
            "method": given.method,
            "path": given.path,
            "raw_path": given.path.encode(),
            "root_path": "",
            "query_string": given.query.encode("latin-1"),
            "headers": headers,
            "scheme": "http",
            "http_version": "1.1",
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": given.body}

        return (sys.modules["starlette.requests"].Request(scope, receive),)

    def answer(self, result: Any) -> Answer:
        if isinstance(result, sys.modules["starlette.responses"].Response):
            return _of_response(bytes(result.body), result)
        return to_answer(result)


class EventFunction(Function):
    """`@cloud_event`: gets an event of the `cloudevents` package."""

    def arguments(self, given: Input) -> tuple[Any, ...]:
        package = sys.modules[PACKAGE]
        if given.attributes is not None:
            return (package.CloudEvent(dict(given.attributes), given.value()),)
        conversion = package.event_conversion
        with create_flask_app().request_context(create_environ(given)):
            try:
                return (conversion.background_event_to_cloud_event(sys.modules["flask"].request),)
            except package.EventConversionException as error:
                raise BadInput(
                    "This agent takes CloudEvents, and this request is none",
                    code="cloudevent_expected",
                    hint=f"Send the ce- header fields, or an event as {EVENT}.",
                ) from error

    def answer(self, result: Any) -> Answer:
        if isinstance(result, sys.modules[PACKAGE].CloudEvent):
            event = {name: result[name] for name in result}
            return Answer(to_answer({**event, "data": result.data}).body, EVENT)
        return super().answer(result)


class TypedFunction(Function):
    """`@typed`: gets what its type's `from_dict` makes of the JSON body."""

    def __init__(self, function: Callable[..., Any], threads: Threads, kind: Any) -> None:
        super().__init__(function, threads)
        self._kind = kind

    def arguments(self, given: Input) -> tuple[Any, ...]:
        value = given.value()
        try:
            return (self._kind.from_dict(value),)
        except Exception as error:  # from_dict is the agent's own code, and may raise anything for a wrong input
            raise Unprocessable(
                f"The input is no {self._kind.__name__}: {describe(error)}",
                code="input_invalid",
                hint="Send what the agent's type can be made from.",
            ) from error

    def answer(self, result: Any) -> Answer:
        return super().answer(result.to_dict() if hasattr(result, "to_dict") else result)


class BackgroundFunction(Function):
    """`def f(data, context)`, for CloudEvents and for the older form of events, {"context": …, "data": …}."""

    def arguments(self, given: Input) -> tuple[Any, ...]:
        if given.attributes is None:
            return _background(given.value())
        package = sys.modules.get(PACKAGE)
        if package is not None:
            with create_flask_app().request_context(_event_environ(given)):
                request = sys.modules["flask"].request
                if package.event_conversion.is_convertable_cloud_event(request):
                    converted: tuple[Any, ...] = package.event_conversion.cloud_event_to_background_event(request)
                    return converted
        attributes = given.attributes
        context = _context(
            eventId=attributes["id"],
            timestamp=attributes.get("time", ""),
            eventType=attributes["type"],
            resource=attributes.get("subject") or attributes["source"],
        )
        return given.value(), context


def _background(event: Any) -> tuple[Any, ...]:
    if not isinstance(event, dict) or "data" not in event:
        raise BadInput(
            "This agent takes events, and this request is none",
            code="cloudevent_expected",
            hint='Send a CloudEvent, or JSON like {"context": {"eventId": "1"}, "data": {}}.',
        )
    context = event.get("context") or event
    names = ("eventId", "timestamp", "eventType", "resource")
    return event["data"], _context(**{name: context.get(name, "") for name in names})


def _context(**members: Any) -> Any:
    """The package's own context where it is there, else one with the same attributes."""
    module = sys.modules.get("google.cloud.functions.context")
    if module is not None:
        return module.Context(**members)
    return SimpleNamespace(
        event_id=members["eventId"],
        timestamp=members["timestamp"],
        event_type=members["eventType"],
        resource=members["resource"],
    )


# requests and responses


def create_flask_app() -> Any:
    """An application without routes. Flask is imported: functions-framework does."""
    return sys.modules["flask"].Flask(PACKAGE)


def create_environ(given: Input) -> dict[str, Any]:
    """The request for WSGI (PEP 3333)."""
    environ = {
        "REQUEST_METHOD": given.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": given.path.encode().decode("latin-1"),
        "QUERY_STRING": given.query,
        "CONTENT_LENGTH": str(len(given.body)),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(given.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in _headers(given).items():
        if name == "content-type":
            environ["CONTENT_TYPE"] = value
        elif name != "content-length":
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ


def _event_environ(given: Input) -> dict[str, Any]:
    """An event in binary form, however it came."""
    environ = create_environ(given)
    for name, value in (given.attributes or {}).items():
        environ[f"HTTP_CE_{name.upper()}"] = str(value)
    return environ


def _headers(given: Input) -> dict[str, str]:
    return {**given.headers, **({"content-type": given.content_type} if given.content_type else {})}


def _of_response(body: bytes, response: Any) -> Answer:
    """An answer from a response of Flask's or Starlette's."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    content_type = headers.pop("content-type", BINARY)
    headers.pop("content-length", None)
    return Answer(body, content_type, status=response.status_code, headers=headers)
