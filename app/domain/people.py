"""Who may do what: roles of people, scopes, and the principal that every request of the API has."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType


class Role(enum.StrEnum):
    """What somebody is at the utility."""

    # Runs the platform: people, settings, backups.
    ADMIN = "admin"
    # Answers customers, all day.
    SUPPORT = "support"
    # In a home, finding out why Wi-Fi or the meter link is bad.
    TECHNICIAN = "technician"
    # Looks at the fleet; sees nobody's data.
    VIEWER = "viewer"
    # Reads who read what. Nobody else may, the admin included: those who are watched do not keep the record.
    AUDITOR = "auditor"


class Scope(enum.StrEnum):
    """One right. A role has a set of them; an API token of a third party has some of its maker's."""

    # Counters, health, metrics, the platform's own state.
    HUB_READ = "hub:read"
    # Modules, their technical facts and states, events of them.
    FLEET_READ = "fleet:read"
    # Create, block, re-key, tag, pair.
    FLEET_WRITE = "fleet:write"
    # Who lives where: sites, holders, search by their identifiers.
    PERSONAL_READ = "personal:read"
    # A home's consumption.
    READINGS_READ = "readings:read"
    # Remote commands to modules.
    COMMANDS_SEND = "commands:send"
    # Refused messages: read, replay, drop.
    QUARANTINE = "quarantine"
    # Live feed grants.
    LIVE = "live"
    # Long work: exports, imports, bulk actions, recomputing.
    JOBS = "jobs"
    # Who changed what.
    ACTIONS_READ = "actions:read"
    # Who read what of whom.
    AUDIT_READ = "audit:read"
    # Settings that may change while the hub runs.
    SETTINGS = "settings"
    # Operators and API tokens.
    PEOPLE = "people"
    # Backups, and where everything on a person or module is.
    BACKUPS = "backups"
    PRIVACY = "privacy"


_VIEWER = frozenset({Scope.HUB_READ, Scope.FLEET_READ, Scope.LIVE})
_TECHNICIAN = _VIEWER | {Scope.PERSONAL_READ, Scope.READINGS_READ, Scope.COMMANDS_SEND, Scope.JOBS}
_SUPPORT = _TECHNICIAN | {Scope.FLEET_WRITE, Scope.QUARANTINE}

ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {
        Role.VIEWER: _VIEWER,
        Role.TECHNICIAN: _TECHNICIAN,
        Role.SUPPORT: _SUPPORT,
        Role.ADMIN: frozenset(Scope) - {Scope.AUDIT_READ},
        Role.AUDITOR: frozenset({Scope.HUB_READ, Scope.AUDIT_READ, Scope.ACTIONS_READ}),
    }
)


def roles_with(scope: Scope) -> tuple[Role, ...]:
    """The roles that have a scope, in the order of `Role`."""
    return tuple(role for role in Role if scope in ROLE_SCOPES[role])


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: an operator in a session, or a third party's API token.

    `name` stands in the access log and beside every change; it is unique among operators, and `token:NAME` for tokens.
    A principal that `must_change_password` may do nothing but that.
    """

    name: str
    scopes: frozenset[Scope]
    operator_id: int | None = None
    role: Role | None = None
    session_id: int | None = None
    must_change_password: bool = False

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope."""
        return scope in self.scopes


@dataclasses.dataclass(frozen=True, slots=True)
class Purpose:
    """Why personal data are looked at, as the header `Wattdeck-Purpose: code[; ticket]` says it."""

    code: str
    ticket: str = ""
