"""Bodies of the encryption API. Keys themselves are in none of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from control_api.schemas import Moment, View, example

Source = Literal["file", "environment", "vault"]


class EncryptionView(View):
    model_config = example(
        source="file",
        master="9b2f04c8d1e6a753",
        master_since="2026-11-24T13:00:00.000Z",
        version=2,
        since="2026-11-24T14:00:00.000Z",
        former_versions=1,
        unreadable=0,
    )

    source: Source = Field(description="Where the master key is.")
    master: str = Field(description="Which one: an identifier, of no use for anything else.")
    master_since: Moment = Field(description="Since when it wraps.")
    version: int = Field(description="Of the organization's key that seals.")
    since: Moment = Field(description="When that version was made.")
    former_versions: int = Field(description="Older versions, kept until everything they sealed is sealed anew.")
    unreadable: int = Field(description="Values that no version opens; while there are any, no version is destroyed.")
