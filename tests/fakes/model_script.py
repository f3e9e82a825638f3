"""What the fake model says: decided by the conversation alone, so that equal requests get equal answers.

It works on the current exchange, which is what came after the last answer that was no tool call:

- `use TOOL {json}` in a user's message, if that tool is offered: it calls it; several, one after the other
- after that: `The tools said: RESULT; RESULT`
- a tool that the request forces, or a JSON schema: arguments or JSON of that shape, with the user's text in its strings
- `fail 500`: an error of that status; `fail 500 once`: only the first such request
- `break off`: the connection ends within the answer, if it is streamed
- anything else: `Echo: ` and the last message of the user
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USE = re.compile(r"\buse ([\w.-]+) (?=\{)")
FAIL = re.compile(r"\bfail (\d{3})( once)?\b")
BREAK = "break off"


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the conversation. `results` are those of tools; `is_final` marks an answer that calls none."""

    role: str
    text: str = ""
    results: tuple[str, ...] = ()
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A request, whatever its dialect. `tools` maps each name that is offered to its JSON schema."""

    model: str
    messages: tuple[Said, ...]
    tools: Mapping[str, Any] = field(default_factory=dict)
    forced: str | None = None
    schema: Mapping[str, Any] | None = None
    stream: bool = False

    def exchange(self) -> tuple[Said, ...]:
        finals = [index for index, said in enumerate(self.messages) if said.is_final]
        return self.messages[finals[-1] + 1 if finals else 0 :]

    def user_text(self) -> str:
        return next((said.text for said in reversed(self.messages) if said.role == "user" and said.text), "")

    def input_tokens(self) -> int:
        return sum(
            len(said.text.split()) + sum(len(result.split()) for result in said.results) for said in self.messages
        )


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer: a text, or a call of `tool` with `arguments`."""

    text: str = ""
    tool: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def pieces(self) -> list[str]:
        """The text or the arguments as they are streamed."""
        whole = self.text if self.tool is None else json.dumps(self.arguments)
        return re.findall(r"\s*\S+\s*$|\s*\S+", whole) or [""]

    def output_tokens(self) -> int:
        return len(self.pieces())


def answer(question: Question) -> Spoken:
    exchange = question.exchange()
    results = [result for said in exchange for result in said.results]
    wanted = [call for said in exchange if said.role == "user" for call in _uses(said.text, question.tools)]
    if len(results) < len(wanted):
        name, arguments = wanted[len(results)]
        return Spoken(tool=name, arguments=arguments)
    if question.forced is not None:
        shape = _of_shape(question.tools[question.forced], question.user_text())
        return Spoken(tool=question.forced, arguments=shape)
    if question.schema is not None:
        return Spoken(json.dumps(_of_shape(question.schema, question.user_text())))
    if results:
        return Spoken(f"The tools said: {'; '.join(results)}")
    return Spoken(f"Echo: {question.user_text()}")


def _uses(text: str, tools: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for match in USE.finditer(text):
        if match[1] in tools:
            arguments, _ = json.JSONDecoder().raw_decode(text, match.end())
            found.append((match[1], arguments))
    return found


def _of_shape(schema: Mapping[str, Any], text: str, definitions: Mapping[str, Any] | None = None) -> Any:
    """A value that the JSON schema accepts: the first choice, one item per list, `text` in strings, 1 for numbers."""
    definitions = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        return _of_shape(definitions[schema["$ref"].rpartition("/")[2]], text, definitions)
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return _of_shape(choices[0], text, definitions)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _of_shape(part, text, definitions) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_of_shape(schema.get("items", {}), text, definitions)]
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case "boolean":
            return True
        case "null":
            return None
    return text
