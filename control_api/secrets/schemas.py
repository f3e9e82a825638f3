"""Bodies of the secrets API."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator, model_validator

from control_api.schemas import Body, Moment, View, example

MAX_VALUE = 64 * 1024


class SecretRequest(Body):
    model_config = example(value="sk-…")

    value: SecretStr | None = Field(
        None, min_length=1, max_length=MAX_VALUE, description="What an instance gets to see."
    )
    reference: str | None = Field(
        None,
        max_length=1000,
        description="Where the value is outside, instead: vault:PATH#FIELD, PATH below the organization's folder.",
    )

    @field_validator("value")
    @classmethod
    def _can_be_a_variable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and "\0" in value.get_secret_value():
            raise ValueError("an environment variable cannot hold a NUL")
        return value

    @model_validator(mode="after")
    def _says_one_thing(self) -> SecretRequest:
        if (self.value is None) == (self.reference is None):
            raise ValueError("either a value or a reference")
        return self


class RollbackRequest(Body):
    model_config = example(version=1)

    version: int = Field(ge=1, le=2**31 - 1, description="The version to use again.")


class SecretView(View):
    model_config = example(
        name="OPENAI_API_KEY",
        version=2,
        reference=None,
        created_at="2026-11-24T13:00:00.000Z",
        updated_at="2026-11-24T14:00:00.000Z",
    )

    name: str
    version: int = Field(description="The version in use.")
    reference: str | None = Field(description="Where its value is, if that is outside.")
    created_at: Moment
    updated_at: Moment


class SecretVersionView(View):
    model_config = example(version=1, reference=None, in_use=False, created_at="2026-11-24T13:00:00.000Z")

    version: int
    reference: str | None = Field(description="Where its value is, if that is outside.")
    in_use: bool = Field(description="Whether instances that start now get this one.")
    created_at: Moment
