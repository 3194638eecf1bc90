"""Operators as an administrator keeps them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.domain.errors import NotAllowed
from app.domain.listing import Found, Listing
from app.domain.passwords import check_full_name, check_operator_name, new_one_time_password
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.services.people.attempts import LockOuts
from app.services.people.grants import Grants
from app.services.people.passwords import Passwords
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.operators import OperatorChange, OperatorRecord, Operators

log = logging.getLogger(__name__)


class Administration:
    """Blocks on the database and on hashes. What is changed is in force for live sessions when a method returns."""

    def __init__(
        self,
        operators: Operators,
        grants: Grants,
        passwords: Passwords,
        lock_outs: LockOuts,
        now_us: Callable[[], int],
    ) -> None:
        self._operators = operators
        self._grants = grants
        self._passwords = passwords
        self._lock_outs = lock_outs
        self._now_us = now_us

    def page(self, listing: Listing) -> Found[OperatorRecord]:
        """Some of them."""
        return self._operators.page(listing)

    def get(self, name: str) -> OperatorRecord:
        """Raises UnknownNameError."""
        return self._operators.get(name)

    def create(self, by: Principal, name: str, role: Role, full_name: str) -> tuple[OperatorRecord, str]:
        """A new operator and their one-time password. Raises OperatorInputError, NameTakenError, NotAllowed."""
        check_operator_name(name)
        check_full_name(full_name)
        _check_reach(by, role)
        password = new_one_time_password()
        password_hash = self._passwords.hashed(password)
        made = self._operators.create(
            name, role, password_hash, full_name=full_name, actor=by.name, at_us=self._now_us()
        )
        self._lock_outs.forget(name)
        return made, password

    def edit(self, by: Principal, name: str, change: OperatorChange, version: int) -> OperatorRecord:
        """Change role, full name, or whether they may log in.

        Raises UnknownNameError, VersionConflict, NotAllowed, and RefusedChangeError for what would lock somebody out.
        """
        old = self._operators.get(name)
        check_full_name(change.full_name or "")
        _check_reach(by, old.role)
        if change.role is not None:
            _check_reach(by, change.role)
        if by.operator_id == old.id and (change.disabled or change.role not in {None, old.role}):
            raise RefusedChangeError("nobody changes their own role or disables themselves; ask another administrator")
        with self._grants.changing:
            changed = self._operators.edit(name, change, version=version, actor=by.name, at_us=self._now_us())
            self._grants.take_over(changed)
        return changed

    def reset_password(self, by: Principal, name: str) -> tuple[OperatorRecord, str]:
        """A one-time password for somebody who lost theirs; ends their sessions and their lock."""
        operator = self._operators.get(name)
        _check_reach(by, operator.role)
        if by.operator_id == operator.id:
            raise RefusedChangeError("change your own password where you know the old one")
        password = new_one_time_password()
        password_hash = self._passwords.hashed(password)
        with self._grants.changing:
            changed = self._operators.set_password(
                name, password_hash, one_time=True, actor=by.name, at_us=self._now_us()
            )
            self._grants.end_sessions(changed.id)
        self._lock_outs.forget(name)
        return changed, password

    def end_sessions(self, by: Principal, name: str) -> None:
        """End every session of an operator."""
        operator = self._operators.get(name)
        _check_reach(by, operator.role)
        with self._grants.changing:
            self._grants.sessions.end_all(operator, actor=by.name, at_us=self._now_us())
            self._grants.end_sessions(operator.id)

    def rename(self, by: Principal, full_name: str, version: int) -> OperatorRecord:
        """One's own full name. Raises UnknownNameError, VersionConflict."""
        own = self.own(by)
        check_full_name(full_name)
        change = OperatorChange(full_name=full_name)
        return self._operators.edit(own.name, change, version=version, actor=by.name, at_us=self._now_us())

    def own(self, by: Principal) -> OperatorRecord:
        """One's own account. Raises UnknownNameError for what is no operator."""
        if by.operator_id is None:
            raise UnknownNameError("operator", by.name)
        return self._operators.get(by.name)


def _check_reach(by: Principal, role: Role) -> None:
    """An API token that keeps people must not make itself an operator with more rights than it was given."""
    if by.role is not Role.ADMIN and not ROLE_SCOPES[role] <= by.scopes:
        raise NotAllowed(f"the role {role} has rights that you do not have")


def first_operator(operators: Operators, passwords: Passwords, at_us: int) -> str | None:
    """At a first start, make the administrator `admin`; their one-time password, None when there are operators."""
    if not operators.is_empty():
        return None
    password = new_one_time_password()
    operators.create("admin", Role.ADMIN, passwords.hashed(password), actor="hub", at_us=at_us)
    return password
