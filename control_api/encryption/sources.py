"""Chooses where the master key is, by settings; and knows every other key that is there, so that it may move."""

from __future__ import annotations

from collections.abc import Sequence

from control_api.encryption.environment import EnvironmentKeys
from control_api.encryption.files import FileKeys
from control_api.settings import Settings
from control_api.vault.client import Vault
from control_api.vault.transit import TransitKeys
from domain.ports import MasterKey, MasterKeys


class ChosenKeys:
    """`domain.ports.MasterKeys`: those of `chosen`; `others` only unwrap what was wrapped before."""

    def __init__(self, chosen: MasterKeys, others: Sequence[MasterKeys]) -> None:
        self._chosen = chosen
        self._others = others

    def current(self) -> MasterKey:
        return self._chosen.current()

    def known(self) -> Sequence[MasterKey]:
        found = [key for source in (self._chosen, *self._others) for key in source.known()]
        return list({key.id: key for key in found}.values())

    def renew(self) -> MasterKey:
        return self._chosen.renew()

    def settle(self, key: str) -> None:
        self._chosen.settle(key)


def master_keys(settings: Settings, *, is_new: bool) -> MasterKeys:
    """Those that the settings name. `is_new`: nothing was ever sealed, so a key file that is missing is made."""
    files = FileKeys(settings.layout.master_key)
    sources: dict[str, MasterKeys] = {"file": files, "environment": EnvironmentKeys(settings.encryption)}
    if settings.vault.address is not None or settings.encryption.source == "vault":
        sources["vault"] = TransitKeys(Vault(settings.vault), settings.vault)
    if is_new and settings.encryption.source == "file":
        files.create()
    chosen = sources.pop(settings.encryption.source)
    return ChosenKeys(chosen, list(sources.values()))
