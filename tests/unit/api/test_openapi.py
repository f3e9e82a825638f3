"""The API describes itself completely: a walk over every route and every operation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from control_api.app import create_app
from domain.roles import PERMISSIONS, PUBLIC
from orchestrator_runtime.contract.errors import BY_STATUS
from tests.fakes.manual_clock import ManualClock

APP = create_app(clock=ManualClock(), measure=lambda *measured: None)
DOCUMENT: dict[str, Any] = APP.openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
MADE_OR_EMPTY = {"PUT /api/v1/secrets/{name}", "GET /api/v1/agents/{name}/sessions"}
EVERYWHERE = {"401", "403", "422", "429", "500"}


def test_the_document_is_openapi_3() -> None:
    assert DOCUMENT["openapi"].startswith("3.")
    assert len(OPERATIONS) > 30


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_summary_and_a_tag(name: str) -> None:
    assert OPERATIONS[name]["summary"]
    assert OPERATIONS[name]["tags"]
    assert OPERATIONS[name]["summary"][0].isupper()


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_which_permission_it_needs(name: str) -> None:
    permission = OPERATIONS[name]["x-permission"]
    assert permission in PERMISSIONS | PUBLIC
    assert (OPERATIONS[name].get("security") == [{}, {"token": []}]) == (permission in PUBLIC)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_documents_its_answer_with_an_example(name: str) -> None:
    answers = {code: answer for code, answer in OPERATIONS[name]["responses"].items() if code.startswith("2")}
    assert answers
    for code, answer in answers.items():
        if code == "204":
            continue
        assert answer.get("content"), f"{name} {code} has no schema"
        assert any(has_example(content) for content in answer["content"].values()), f"{name} {code} has no example"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_documents_its_errors_as_problems(name: str) -> None:
    errors = {code: answer for code, answer in OPERATIONS[name]["responses"].items() if not code.startswith("2")}
    assert errors.keys() >= EVERYWHERE
    for code, answer in errors.items():
        assert int(code) in BY_STATUS
        [(content_type, content)] = answer["content"].items()
        assert content_type == "application/problem+json"
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert all(example["value"]["code"] and example["value"]["detail"] for example in content["examples"].values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_body_has_a_schema_and_an_example(name: str) -> None:
    for content_type, content in OPERATIONS[name].get("requestBody", {}).get("content", {}).items():
        if content_type == "application/json":
            assert has_example(content), f"the body of {name} has no example"
            assert "413" in OPERATIONS[name]["responses"]


def test_paths_with_a_parameter_may_be_unknown() -> None:
    for name, operation in OPERATIONS.items():
        if "{" in name and name not in MADE_OR_EMPTY:
            assert "404" in operation["responses"], name


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for reference in references(DOCUMENT):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_every_route_is_described_or_is_the_documentation_itself() -> None:
    paths = {context.path_format for context in iter_route_contexts(APP.routes)}
    assert paths - DOCUMENT["paths"].keys() == {"/api/v1/openapi.json", "/api/v1/docs", "/api/v1/docs/{asset}"}


def has_example(content: dict[str, Any]) -> bool:
    """Whether the schema, or one that it is made of, shows an example."""
    if "example" in content or "examples" in content:
        return True
    text = json.dumps(content["schema"])
    if '"example"' in text:
        return True
    named = [reference.removeprefix("#/components/schemas/") for reference in references(content["schema"])]
    return any(has_example({"schema": DOCUMENT["components"]["schemas"][one]}) for one in named)


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for value in node.values() for found in references(value)]
