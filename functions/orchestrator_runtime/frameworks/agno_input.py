"""What came in as Agno takes it: a message, and images, audio, videos and files for its model or its tools."""

from __future__ import annotations

import json
import mimetypes
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from agno.media import Audio, File, Image, Video

from orchestrator_runtime.contract.errors import BadInput
from orchestrator_runtime.frameworks.adapter import Input, Part
from orchestrator_runtime.frameworks.values import BINARY

MESSAGE_MEMBERS = ("message", "input")
SPOKEN = ("text/plain", "text/markdown", "text/json")  # other texts are files, such as text/csv
MEDIA = ("image", "audio", "video")
FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "x-m4a": "m4a"}


@dataclass(slots=True)
class Prompt:
    """`message`: a text, a list of messages, or for a schema any JSON value; `rest`: members that came beside it."""

    message: Any = None
    rest: dict[str, Any] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)
    audio: list[Audio] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    files: list[File] = field(default_factory=list)

    def media(self) -> dict[str, Any]:
        """Arguments of `arun`; without those of which there are none."""
        media = {"images": self.images, "audio": self.audio, "videos": self.videos, "files": self.files}
        return {name: values for name, values in media.items() if values}


def read_prompt(given: Input, *, whole: bool = False) -> Prompt:
    """The message is a text, or the member `message` or `input` of an object, a form or the query; otherwise the value.
    The other members of the object or form are for tools (`dependencies`) or a workflow (`additional_data`).

    `whole`: the agent has a schema of its own, so the value is passed as it is. A body or part that is an image, audio,
    video or file becomes media. Raises `BadInput` (`input_missing`, `not_json`).
    """
    prompt = Prompt()
    if given.parts:
        value: Any = _take_parts(prompt, given.parts)
    else:
        value = given.value()
        is_file = given.content_type.startswith("text/") and not given.content_type.startswith(SPOKEN)
        if isinstance(value, bytes) or (isinstance(value, str) and is_file):
            _attach(prompt, Part("body", given.body, given.content_type or BINARY, _query(given, ("filename",))))
            value = None
    if value is None and not prompt.media() and given.attributes is not None:
        value = dict(given.attributes)  # an event without data says all that it says in these
    if isinstance(value, dict) and not whole:
        name = next((name for name in MESSAGE_MEMBERS if name in value), None)
        prompt.rest = {key: member for key, member in value.items() if key != name} if name else {}
        value = value[name] if name else value or None
    prompt.message = _query(given, MESSAGE_MEMBERS) if value is None else value if whole else _said(value)
    if prompt.message is None:
        if not prompt.media():
            raise BadInput(
                "The request says nothing to the agent",
                code="input_missing",
                hint='Send a text, {"message": "…"}, or a file with ?message=….',
            )
        prompt.message = "See what is attached."
    return prompt


def _said(value: Any) -> Any:
    """A text or a conversation as it is; any other value as JSON, which Agno would not send."""
    is_conversation = isinstance(value, list) and all(isinstance(one, dict) and "role" in one for one in value)
    return value if isinstance(value, str) or (value and is_conversation) else json.dumps(value, ensure_ascii=False)


def _take_parts(prompt: Prompt, parts: tuple[Part, ...]) -> dict[str, Any] | None:
    """Attach the files; the other fields are the value."""
    fields: dict[str, Any] = {}
    for part in parts:
        if part.filename is not None or part.content_type.startswith(MEDIA):
            _attach(prompt, part)
        else:
            fields[part.name] = Input(body=part.body, content_type=part.content_type).value()
    return fields or None


def _attach(prompt: Prompt, part: Part) -> None:
    kind = part.content_type.partition(";")[0].strip().lower()
    if kind == BINARY and part.filename:
        kind = mimetypes.guess_type(part.filename)[0] or BINARY
    family, _, subtype = kind.partition("/")
    described = {"content": part.body, "mime_type": kind, "format": FORMATS.get(subtype, subtype)}
    if family == "image":
        prompt.images.append(Image(**described))
    elif family == "audio":
        prompt.audio.append(Audio(**described))
    elif family == "video":
        prompt.videos.append(Video(**described))
    else:
        known = kind if kind in File.valid_mime_types() else None
        prompt.files.append(File(content=part.body, mime_type=known, filename=part.filename or part.name))


def _query(given: Input, names: tuple[str, ...]) -> str | None:
    query = parse_qs(given.query)
    return next((query[name][0] for name in names if name in query), None)
