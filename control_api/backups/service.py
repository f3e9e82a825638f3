"""Backups of a database that is in use."""

from __future__ import annotations

import asyncio
from pathlib import Path

from control_api.backups.schemas import BackupView
from control_api.store.backup import back_up
from control_api.store.keys import OrganizationKeys
from domain.clock import Clock


class BackupService:
    def __init__(self, *, url: str, folder: Path, keys: OrganizationKeys, clock: Clock) -> None:
        self._url = url
        self._keys = keys
        self._folder = folder
        self._clock = clock

    async def create(self) -> BackupView:
        """Raises `Unavailable` (`backup_failed`)."""
        now = self._clock.now()
        installation = self._keys.installation
        path = await asyncio.to_thread(back_up, self._url, self._folder, installation=installation, now=now)
        return BackupView(path=str(path), size=path.stat().st_size, created_at=now)
