"""Parameters of paths below /agents/{name}."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

Name = Annotated[str, Path(description="The agent's name.")]
Revision = Annotated[str, Path(description="Name of the revision, such as triage-00003.")]
