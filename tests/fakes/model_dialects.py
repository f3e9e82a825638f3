"""The fake model's answers as OpenAI's chat completions and responses and Anthropic's messages have them.

A dialect reads a request's JSON as a `Question`, and writes a `Spoken` whole or as server-sent events.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from tests.fakes.model_script import Question, Said, Spoken

CREATED = 1_760_000_000
Events = Iterator[tuple[str | None, Any]]  # (event, data); "[DONE]" is a text, everything else JSON


class Dialect(Protocol):
    def read(self, body: Mapping[str, Any]) -> Question: ...

    def whole(self, question: Question, spoken: Spoken, identity: str) -> dict[str, Any]: ...

    def events(self, question: Question, spoken: Spoken, identity: str) -> Events: ...

    def error(self, status: int) -> dict[str, Any]: ...


def identity_of(body: Mapping[str, Any]) -> str:
    """Equal for equal requests."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]


class ChatCompletions:
    """OpenAI: POST /v1/chat/completions."""

    def read(self, body: Mapping[str, Any]) -> Question:
        functions = [tool["function"] for tool in body.get("tools") or () if tool["type"] == "function"]
        choice = body.get("tool_choice")
        wanted = body.get("response_format") or {}
        return Question(
            body["model"],
            tuple(self._said(message) for message in body["messages"]),
            tools={function["name"]: function.get("parameters") or {} for function in functions},
            forced=choice["function"]["name"] if isinstance(choice, dict) else None,
            schema=wanted["json_schema"]["schema"] if wanted.get("type") == "json_schema" else None,
            stream=bool(body.get("stream")),
        )

    def whole(self, question: Question, spoken: Spoken, identity: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": spoken.text or None}
        if spoken.tool:
            function = {"name": spoken.tool, "arguments": json.dumps(spoken.arguments)}
            message["tool_calls"] = [{"id": f"call_{identity}", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason(spoken)}
        head = {"id": f"chatcmpl-{identity}", "object": "chat.completion", "created": CREATED, "model": question.model}
        return {**head, "choices": [choice], "usage": self._usage(question, spoken)}

    def events(self, question: Question, spoken: Spoken, identity: str) -> Events:
        head = {"id": f"chatcmpl-{identity}", "object": "chat.completion.chunk", "created": CREATED}

        def chunk(delta: dict[str, Any], reason: str | None = None) -> tuple[None, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            return None, {**head, "model": question.model, "choices": [choice]}

        if spoken.tool:
            function = {"name": spoken.tool, "arguments": ""}
            call = {"index": 0, "id": f"call_{identity}", "type": "function", "function": function}
            yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
            for piece in spoken.pieces():
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        else:
            yield chunk({"role": "assistant", "content": ""})
            for piece in spoken.pieces():
                yield chunk({"content": piece})
        yield chunk({}, self._reason(spoken))
        yield None, {**head, "model": question.model, "choices": [], "usage": self._usage(question, spoken)}
        yield None, "[DONE]"

    def error(self, status: int) -> dict[str, Any]:
        return {"error": {"message": "as asked for", "type": "server_error", "param": None, "code": str(status)}}

    def _said(self, message: Mapping[str, Any]) -> Said:
        text = _text(message.get("content"))
        if message["role"] in ("tool", "function"):
            return Said("tool", results=(text,))
        return Said(message["role"], text, is_final=message["role"] == "assistant" and not message.get("tool_calls"))

    def _reason(self, spoken: Spoken) -> str:
        return "tool_calls" if spoken.tool else "stop"

    def _usage(self, question: Question, spoken: Spoken) -> dict[str, Any]:
        given, said = question.input_tokens(), spoken.output_tokens()
        return {"prompt_tokens": given, "completion_tokens": said, "total_tokens": given + said}


class Responses:
    """OpenAI: POST /v1/responses."""

    def read(self, body: Mapping[str, Any]) -> Question:
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        choice = body.get("tool_choice")
        wanted = (body.get("text") or {}).get("format") or {}
        return Question(
            body["model"],
            tuple(self._said(item) for item in items),
            tools={tool["name"]: tool.get("parameters") or {} for tool in body.get("tools") or () if "name" in tool},
            forced=choice["name"] if isinstance(choice, dict) and choice.get("type") == "function" else None,
            schema=wanted.get("schema") if wanted.get("type") == "json_schema" else None,
            stream=bool(body.get("stream")),
        )

    def whole(self, question: Question, spoken: Spoken, identity: str) -> dict[str, Any]:
        return self._response(question, identity, [self._item(spoken, identity)], self._usage(question, spoken))

    def events(self, question: Question, spoken: Spoken, identity: str) -> Events:
        item = self._item(spoken, identity)
        place = {"output_index": 0, "item_id": item["id"]}
        yield self._event("response.created", response=self._response(question, identity, [], None))
        if spoken.tool:
            yield self._event("response.output_item.added", output_index=0, item={**item, "arguments": ""})
            for piece in spoken.pieces():
                yield self._event("response.function_call_arguments.delta", **place, delta=piece)
            yield self._event("response.function_call_arguments.done", **place, arguments=item["arguments"])
        else:
            inside = {**place, "content_index": 0}
            empty = {"type": "output_text", "text": "", "annotations": []}
            yield self._event("response.output_item.added", output_index=0, item={**item, "content": []})
            yield self._event("response.content_part.added", **inside, part=empty)
            for piece in spoken.pieces():
                yield self._event("response.output_text.delta", **inside, delta=piece, logprobs=[])
            yield self._event("response.output_text.done", **inside, text=spoken.text, logprobs=[])
            yield self._event("response.content_part.done", **inside, part=item["content"][0])
        yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event("response.completed", response=self.whole(question, spoken, identity))

    def error(self, status: int) -> dict[str, Any]:
        return ChatCompletions().error(status)

    def _event(self, event: str, **data: Any) -> tuple[str, Any]:
        return event, {"type": event, "sequence_number": 0, **data}

    def _item(self, spoken: Spoken, identity: str) -> dict[str, Any]:
        if spoken.tool:
            call = {"call_id": f"call_{identity}", "name": spoken.tool, "arguments": json.dumps(spoken.arguments)}
            return {"type": "function_call", "id": f"fc_{identity}", "status": "completed", **call}
        content = [{"type": "output_text", "text": spoken.text, "annotations": []}]
        message = {"role": "assistant", "status": "completed", "content": content}
        return {"type": "message", "id": f"msg_{identity}", **message}

    def _response(
        self, question: Question, identity: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        settings = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0}
        status = {"status": "completed" if output else "in_progress", "error": None, "incomplete_details": None}
        head = {"id": f"resp_{identity}", "object": "response", "created_at": CREATED, "model": question.model}
        return {**head, **status, "output": output, "usage": usage, "metadata": {}, "instructions": None, **settings}

    def _said(self, item: Mapping[str, Any]) -> Said:
        if item.get("type") == "function_call_output":
            return Said("tool", results=(_text(item["output"]),))
        if item.get("type") in (None, "message"):
            return Said(item["role"], _text(item["content"]), is_final=item["role"] == "assistant")
        return Said("assistant")  # a call of a tool, or reasoning

    def _usage(self, question: Question, spoken: Spoken) -> dict[str, Any]:
        given, said = question.input_tokens(), spoken.output_tokens()
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        return {"input_tokens": given, "output_tokens": said, "total_tokens": given + said, **details}


class Messages:
    """Anthropic: POST /v1/messages."""

    def read(self, body: Mapping[str, Any]) -> Question:
        choice = body.get("tool_choice") or {}
        wanted = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
        system = (Said("system", _text(body["system"])),) if body.get("system") else ()
        return Question(
            body["model"],
            (*system, *(self._said(message) for message in body["messages"])),
            tools={tool["name"]: tool.get("input_schema") or {} for tool in body.get("tools") or ()},
            forced=choice.get("name"),
            schema=wanted.get("schema"),
            stream=bool(body.get("stream")),
        )

    def whole(self, question: Question, spoken: Spoken, identity: str) -> dict[str, Any]:
        usage = {"input_tokens": question.input_tokens(), "output_tokens": spoken.output_tokens()}
        content = [self._block(spoken, identity)]
        return self._message(question, identity, content, stop_reason=self._reason(spoken), usage=usage)

    def events(self, question: Question, spoken: Spoken, identity: str) -> Events:
        usage = {"input_tokens": question.input_tokens(), "output_tokens": 1}
        yield self._event("message_start", message=self._message(question, identity, [], usage=usage))
        nothing: dict[str, Any] = {"input": {}} if spoken.tool else {"text": ""}
        empty = {**self._block(spoken, identity), **nothing}
        yield self._event("content_block_start", index=0, content_block=empty)
        yield self._event("ping")
        for piece in spoken.pieces():
            text = {"type": "text_delta", "text": piece}
            delta = {"type": "input_json_delta", "partial_json": piece} if spoken.tool else text
            yield self._event("content_block_delta", index=0, delta=delta)
        yield self._event("content_block_stop", index=0)
        end = {"stop_reason": self._reason(spoken), "stop_sequence": None}
        yield self._event("message_delta", delta=end, usage={"output_tokens": spoken.output_tokens()})
        yield self._event("message_stop")

    def error(self, status: int) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "api_error", "message": f"as asked for: {status}"}}

    def _event(self, event: str, **data: Any) -> tuple[str, Any]:
        return event, {"type": event, **data}

    def _message(self, question: Question, identity: str, content: list[dict[str, Any]], **end: Any) -> dict[str, Any]:
        head = {"id": f"msg_{identity}", "type": "message", "role": "assistant", "model": question.model}
        return {**head, "content": content, "stop_reason": None, "stop_sequence": None, **end}

    def _block(self, spoken: Spoken, identity: str) -> dict[str, Any]:
        if spoken.tool:
            return {"type": "tool_use", "id": f"toolu_{identity}", "name": spoken.tool, "input": spoken.arguments}
        return {"type": "text", "text": spoken.text}

    def _reason(self, spoken: Spoken) -> str:
        return "tool_use" if spoken.tool else "end_turn"

    def _said(self, message: Mapping[str, Any]) -> Said:
        content = message["content"]
        blocks = [] if isinstance(content, str) else content
        results = tuple(_text(block.get("content")) for block in blocks if block["type"] == "tool_result")
        calls = any(block["type"] == "tool_use" for block in blocks)
        return Said(message["role"], _text(content), results, is_final=message["role"] == "assistant" and not calls)


def _text(content: Any) -> str:
    """The text of a content: a text itself, or a list of parts of which some have one."""
    if isinstance(content, list):
        return " ".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    return "" if content is None else str(content)
