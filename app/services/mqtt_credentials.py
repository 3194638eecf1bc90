"""Credentials of sources and services: nobody gives by MQTT what they may not do themselves."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.credentials import CredentialKind
from app.domain.errors import NotAllowed
from app.domain.listing import Found, Listing
from app.domain.people import Principal, Scope
from app.stores.registry.account_edits import AccountChange, AccountEdits, AccountFile


class MqttCredentials:
    """Every method blocks."""

    def __init__(self, edits: AccountEdits) -> None:
        self._edits = edits

    def page(self, listing: Listing) -> Found[AccountFile]:
        """Some of them."""
        return self._edits.page(listing)

    def one(self, username: str) -> AccountFile:
        """Raises UnknownNameError."""
        return self._edits.one(username)

    def create(
        self,
        by: Principal,
        username: str,
        kind: CredentialKind,
        *,
        publish: Sequence[str],
        subscribe: Sequence[str],
        note: str,
    ) -> tuple[AccountFile, str]:
        """A credential and its secret, told this once. Raises NotAllowed, OperatorInputError, NameTakenError."""
        _permit(by, publish, subscribe)
        return self._edits.create(by.name, username, kind, publish=publish, subscribe=subscribe, note=note)

    def edit(self, by: Principal, username: str, version: int, change: AccountChange) -> AccountFile:
        """Raises NotAllowed, UnknownNameError, VersionConflict, OperatorInputError."""
        let_in = self._edits.one(username) if change.blocked is False else None
        _permit(
            by,
            change.publish or (let_in.publish if let_in else ()),
            change.subscribe or (let_in.subscribe if let_in else ()),
        )
        return self._edits.edit(by.name, username, version, change)

    def renew(self, by: Principal, username: str) -> tuple[AccountFile, str]:
        """A new secret, told this once. Raises NotAllowed, UnknownNameError."""
        account = self._edits.one(username)
        _permit(by, account.publish, account.subscribe)
        return self._edits.renew(by.name, username)

    def remove(self, by: Principal, username: str) -> None:
        """Raises UnknownNameError."""
        self._edits.remove(by.name, username)


def _permit(by: Principal, publish: Sequence[str], subscribe: Sequence[str]) -> None:
    """Who reads along on the broker sees homes' readings, without the access log; who publishes can be a module."""
    if subscribe and not by.may(Scope.READINGS_READ):
        raise NotAllowed("a credential that subscribes sees readings: you need the right readings:read")
    if publish and not by.may(Scope.FLEET_WRITE):
        raise NotAllowed("a credential that publishes speaks for modules: you need the right fleet:write")
