"""Bodies of the secrets API."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from control_api.schemas import Body, Moment, View, example

MAX_VALUE = 64 * 1024


class SecretRequest(Body):
    model_config = example(value="sk-…")

    value: SecretStr = Field(min_length=1, max_length=MAX_VALUE, description="What an instance gets to see.")

    @field_validator("value")
    @classmethod
    def _can_be_a_variable(cls, value: SecretStr) -> SecretStr:
        if "\0" in value.get_secret_value():
            raise ValueError("an environment variable cannot hold a NUL")
        return value


class SecretView(View):
    model_config = example(
        name="OPENAI_API_KEY", version=2, created_at="2026-11-24T13:00:00.000Z", updated_at="2026-11-24T14:00:00.000Z"
    )

    name: str
    version: int = Field(description="How often it was set.")
    created_at: Moment
    updated_at: Moment
