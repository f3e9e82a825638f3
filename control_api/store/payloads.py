"""Payloads: what runs take in and give out. Small ones are sealed into their event's row, larger ones stored apart.

A larger one is addressed by a keyed hash of its content, so equal payloads of one organization are stored once in a
week, and nobody can guess across organizations what another has stored.
"""

from __future__ import annotations

from sqlalchemy import select

from control_api.store.bulk import BulkTable
from control_api.store.database import ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.partitions import payloads_of
from control_api.store.sealing import OrganizationKey
from control_api.store.tables import payloads
from orchestrator_runtime.contract.errors import NotFound

INLINE_BYTES = 1024  # at most this much is sealed into the event's own row


class PayloadWriter:
    """Collects the larger payloads of one transaction and stores those that are not there yet."""

    def __init__(self, keys: OrganizationKeys) -> None:
        self._keys = keys
        self._contents: dict[
            str, dict[tuple[str, bytes], bytes]
        ] = {}  # partition -> (organization, address) -> content

    def put(self, key: OrganizationKey, organization: str, partition: str, content: bytes) -> bytes:
        """The address that `content` will have after `flush`."""
        address = key.address(content)
        self._contents.setdefault(partition, {})[organization, address] = content
        return address

    def flush(self, session: WriteSession) -> None:
        for partition, contents in self._contents.items():
            wanted = [(organization, address, partition) for organization, address in contents]
            table = BulkTable(payloads, name=f"payloads_{partition}")
            known = BulkTable(payloads, name=table.name, columns=table.key).find(session, wanted, lock=False)
            for organization, address, _ in known:
                del contents[organization, bytes(address)]
            rows = [
                (organization, address, partition, self._seal(session, organization, address, content), len(content))
                for (organization, address), content in contents.items()
            ]
            table.insert(session, rows, existing="keep")
        self._contents.clear()

    def _seal(self, session: WriteSession, organization: str, address: bytes, content: bytes) -> bytes:
        return self._keys.of(session, organization).seal(content, address)


def read_payload(
    session: ReadSession, key: OrganizationKey, organization: str, partition: str, address: bytes
) -> bytes:
    """Raises `NotFound` (`payload_gone`) after retention has dropped the week."""
    table = payloads_of(partition)
    query = select(table.c.sealed).where(table.c.organization == organization, table.c.address == address)
    sealed = session.execute(query).scalar_one_or_none()
    if sealed is None:
        raise NotFound(
            "This payload is not stored any more", code="payload_gone", hint="What the run's events say of it stays."
        )
    return key.open(sealed, address)
