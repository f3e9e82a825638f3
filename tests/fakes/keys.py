"""Keys of a test: as a start would have opened them, without a master key behind."""

from __future__ import annotations

from control_api.store.keys import InstallationKey, OrganizationKeys
from domain.clock import Clock
from tests.fakes.manual_clock import ManualClock

INSTALLATION = InstallationKey(1, b"k" * 32, b"wrapped elsewhere", "a-master-key")


def organization_keys(clock: Clock | None = None) -> OrganizationKeys:
    return OrganizationKeys(INSTALLATION, clock=clock or ManualClock())
