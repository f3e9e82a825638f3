"""Makes, rotates and revokes API keys. A key never makes one that may do more, or lasts longer, than itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from control_api.authorization import Credential, missing, require_below
from control_api.keys import repository
from control_api.keys.repository import StoredKey
from control_api.keys.schemas import KeyRequest, KeyView, NewKeyView
from control_api.organizations import principals
from control_api.organizations.directory import Directory
from control_api.paging import Page, page_of
from control_api.store.database import Database, ReadSession, WriteSession
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Conflict, Forbidden, Unprocessable

MANAGE = "keys:manage"


class KeysService:
    def __init__(self, *, database: Database, directory: Directory, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    async def page(self, caller: Credential, *, after: str | None, limit: int) -> Page[KeyView]:
        """One's own keys, or with `keys:manage` all of the organization; the newest first."""
        rows = await self._database.read(
            lambda session: repository.page(
                session, caller.organization, principal=_seen_by(caller), after=after, limit=limit + 1
            )
        )
        return page_of(rows, limit=limit, key=lambda key: (key.id,))

    async def create(self, caller: Credential, wanted: KeyRequest) -> NewKeyView:
        """Raises `Forbidden` (`key_exceeds`, `role_above`), `NotFound` (`service_account_unknown`) or `Unprocessable`
        (`expiry_invalid`).
        """
        now = self._clock.now()
        expires = future(wanted.expires_at, now=now)
        scopes = wanted.scopes if wanted.scopes is not None or caller.scopes is None else sorted(caller.scopes)
        expires = expires if expires is not None else caller.expires_at
        _require_within(caller, scopes, expires)

        def make(session: WriteSession) -> NewKeyView:
            principal = wanted.service_account or caller.principal
            self._require_mine(session, caller, principal)
            key, token = repository.create(
                session,
                caller.organization,
                principal,
                name=wanted.name,
                created_by=caller.principal,
                now=now,
                scopes=scopes,
                expires_at=expires,
            )
            return _with_token(repository.view(session, caller.organization, key), token)

        return await self._directory.change_in(caller.organization, make)

    async def rotate(self, caller: Credential, key: str) -> NewKeyView:
        """The same key with another token. Raises as `create` does, `NotFound` (`key_unknown`), `Forbidden`
        (`key_of_another`) and `Conflict` (`key_of_home`).
        """

        def replace(session: WriteSession) -> NewKeyView:
            found = self._require(session, caller, key)
            if found.principal != caller.principal and not principals.role_of_account(
                session, caller.organization, found.principal
            ):
                raise Forbidden(
                    "This is the key of another person",
                    code="key_of_another",
                    hint="Only they can rotate it; you can revoke it: `orchestrator keys revoke`.",
                )
            self._require_mine(session, caller, found.principal)
            _require_within(caller, found.scopes, found.expires_at)
            token = repository.replace_token(session, caller.organization, key)
            return _with_token(repository.view(session, caller.organization, key), token)

        return await self._directory.change_in(caller.organization, replace)

    async def revoke(self, caller: Credential, key: str) -> None:
        """It opens nothing any more. Raises `NotFound` (`key_unknown`), `Forbidden` (`role_above`) or `Conflict`
        (`key_of_home`).
        """

        def end(session: WriteSession) -> None:
            found = self._require(session, caller, key)
            role = principals.role_of(session, caller.organization, found.principal)
            if found.principal != caller.principal and role is not None:
                require_below(caller, role)
            repository.revoke(session, caller.organization, key, now=self._clock.now())

        await self._directory.change_in(caller.organization, end)

    def _require(self, session: ReadSession, caller: Credential, key: str) -> StoredKey:
        found = repository.require(session, caller.organization, key, principal=_seen_by(caller))
        if found.of_home:
            raise Conflict(
                "This key is the one in the home folder",
                code="key_of_home",
                hint="Remove the file owner-token and restart the platform: it makes a new one.",
            )
        return found

    def _require_mine(self, session: ReadSession, caller: Credential, principal: str) -> None:
        """Whether the caller may have a token of `principal`: their own, or a service account's below them."""
        if principal == caller.principal:
            principals.require(session, caller.organization, principal)  # who has just been removed gets no key
            return
        role = principals.require_account(session, caller.organization, principal)
        if not caller.may(MANAGE):
            raise missing(MANAGE)
        require_below(caller, role)


def future(moment: datetime | None, *, now: datetime) -> datetime | None:
    """Raises `Unprocessable` (`expiry_invalid`) for a moment that is over."""
    if moment is not None and moment <= now:
        raise Unprocessable("`expires_at` is in the past", code="expiry_invalid", hint="Name a time to come.")
    return moment


def _seen_by(caller: Credential) -> str | None:
    return None if caller.may(MANAGE) else caller.principal


def _require_within(caller: Credential, scopes: Iterable[str] | None, expires: datetime | None) -> None:
    """Raises `Forbidden` (`key_exceeds`)."""
    broader = caller.scopes is not None and (scopes is None or not caller.scopes >= set(scopes))
    longer = caller.expires_at is not None and (expires is None or expires > caller.expires_at)
    if broader or longer:
        raise Forbidden(
            f"The key would {'do more' if broader else 'last longer'} than the one it is asked for with",
            code="key_exceeds",
            hint="Use a key without scopes and end; `orchestrator whoami` shows those of this one.",
        )


def _with_token(key: KeyView, token: str) -> NewKeyView:
    return NewKeyView(**dict(key), token=token)
