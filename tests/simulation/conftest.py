from __future__ import annotations

from tests.integration.conftest import sqlite_template

__all__ = ["sqlite_template"]
