"""What people change of modules: facts, tags and credentials; each change with its deed in one transaction."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.credentials import CredentialKind, hash_secret, new_secret
from app.domain.errors import OperatorInputError, VersionConflict
from app.stores.registry.actions import Deed, record, record_many
from app.stores.registry.chunks import chunks
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.models import Action, Channel, Credential, Module, ModuleTag, Pairing, Site, table
from app.stores.registry.records import CredentialsChanged, ModulesChanged, Provisioned
from app.stores.registry.registry import Registry, wall_clock_us

# What a module may have; lists keep as many per module.
MOST_TAGS = 16


class BulkAction(enum.StrEnum):
    """What may be done to many modules at once."""

    BLOCK = "block"
    UNBLOCK = "unblock"
    TAG = "tag"
    UNTAG = "untag"
    # Only as a job, whose file tells the secrets.
    REKEY = "rekey"


# What changes a credential, and what its event says of it.
CREDENTIAL_WORDS: Mapping[BulkAction, str] = {
    BulkAction.BLOCK: "blocked",
    BulkAction.UNBLOCK: "unblocked",
    BulkAction.REKEY: "re-keyed",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Whom a bulk action changes (or has changed), and who is left out with the reason; both in the order asked.

    `secrets` are those it gave, by serial.
    """

    affected: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelPairing:
    """A channel and what it is paired with now; None: with nothing."""

    channel: int
    site_id: int | None
    city: str | None
    zone: str | None
    from_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleFile:
    """All of a module but what is personal. Times are UTC microseconds; `credential` is active, blocked or none."""

    serial: str
    kind: str
    dialect: str
    period_ms: int | None
    firmware: str | None
    hardware: str | None
    collection: str
    created_us: int
    note: str
    version: int
    tags: tuple[str, ...]
    credential: str
    blocked_us: int | None
    last_used_us: int | None
    channels: tuple[ChannelPairing, ...]


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a deed may hold: of a note, which may be about somebody's home, no more than whether there is one."""
    return {name: ("set" if value else None) if name == "note" else value for name, value in values.items()}


class ModuleEdits:
    """Every method blocks."""

    def __init__(self, registry: Registry, *, now_us: Callable[[], int] = wall_clock_us) -> None:
        self._registry = registry
        self._now_us = now_us

    def one(self, serial: str) -> ModuleFile:
        """A module. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return _file(connection, serial)

    def edit(self, actor: str, serial: str, version: int, values: Mapping[str, Any]) -> ModuleFile:
        """Change `note`, `collection` or `period_ms`. Raises UnknownNameError, VersionConflict."""
        with self._registry.writing() as connection:
            before = _row(connection, serial)
            _raise_version(connection, before, version, dict(values))
            facts = {name: getattr(before, name) for name in values}
            deed = Deed(actor, "module.edit", _subject(serial), _told(facts), _told(values))
            record(connection, deed, self._now_us())
            after = _file(connection, serial)
        self._registry.tell(ModulesChanged((serial,)))
        return after

    def set_tags(self, actor: str, serial: str, version: int, tags: Sequence[str]) -> ModuleFile:
        """Put these tags in place of those it has. Raises UnknownNameError, VersionConflict, OperatorInputError."""
        wanted = sorted(set(tags))
        if len(wanted) > MOST_TAGS:
            raise OperatorInputError(f"a module has at most {MOST_TAGS} tags")
        with self._registry.writing() as connection:
            module = _row(connection, serial)
            before = _tags(connection, [module.id]).get(module.id, [])
            _raise_version(connection, module, version, {})
            connection.execute(sa.delete(ModuleTag).where(ModuleTag.module_id == module.id))
            if wanted:
                rows = [{"module_id": module.id, "tag": tag} for tag in wanted]
                connection.execute(sa.insert(table(ModuleTag)), rows)
            deed = Deed(actor, "module.tag", _subject(serial), {"tags": sorted(before)}, {"tags": wanted})
            record(connection, deed, self._now_us())
            after = _file(connection, serial)
        self._registry.tell(ModulesChanged((serial,)))
        return after

    def rekey(self, actor: str, serial: str) -> Provisioned:
        """A new secret, told this once; the old one ends, and a module that had none gets one.

        Raises UnknownNameError, RefusedChangeError for what has no credential by nature.
        """
        with self._registry.writing() as connection:
            module = _row(connection, serial)
            if module.kind != CredentialKind.MODULE.value:
                raise RefusedChangeError(f"{serial} is a {module.kind}: it has no credential of its own")
            now_us = self._now_us()
            secrets = _rekey(connection, {serial: module.id}, now_us)
            record(connection, Deed(actor, "module.rekey", _subject(serial)), now_us)
        self._registry.tell(CredentialsChanged((serial,), CREDENTIAL_WORDS[BulkAction.REKEY]))
        return Provisioned(serial, serial, secrets[serial])

    def plan(self, serials: Sequence[str], action: BulkAction, tag: str | None = None) -> Outcome:
        """Whom an action would change, and who would be left out and why."""
        with self._registry.reading() as connection:
            return _plan(connection, serials, action, tag)[0]

    def act(
        self,
        actor: str,
        serials: Sequence[str],
        action: BulkAction,
        tag: str | None = None,
        *,
        job_id: str | None = None,
    ) -> Outcome:
        """Do it to whom it can be done to, in one transaction with a deed for each.

        Of a job, whom it has changed before a crash stays changed and counts as affected: its deeds tell. Those are
        given new secrets again, since nobody has those of the first time.
        """
        with self._registry.writing() as connection:
            done = set() if job_id is None else _done_by(connection, job_id, serials, action)
            again = done if action is BulkAction.REKEY else set()
            outcome, ids = _plan(connection, [one for one in serials if one in again or one not in done], action, tag)
            now_us = self._now_us()
            secrets: dict[str, str] = {}
            if action is BulkAction.REKEY:
                secrets = _rekey(connection, dict(zip(outcome.affected, ids, strict=True)), now_us)
            else:
                for part in chunks(ids):
                    _act(connection, part, action, tag, now_us)
            facts = {name: fact for name, fact in (("tag", tag), ("job", job_id)) if fact is not None} or None
            fresh = [serial for serial in outcome.affected if serial not in done]
            deeds = [Deed(actor, f"module.{action}", _subject(serial), None, facts) for serial in fresh]
            record_many(connection, deeds, now_us)
        if outcome.affected:
            word = CREDENTIAL_WORDS.get(action)
            self._registry.tell(
                ModulesChanged(outcome.affected) if word is None else CredentialsChanged(outcome.affected, word)
            )
        if not done:
            return dataclasses.replace(outcome, secrets=secrets)
        changed = done.union(outcome.affected)
        return Outcome(tuple(one for one in dict.fromkeys(serials) if one in changed), outcome.left_out, secrets)


def _plan(
    connection: Connection, serials: Sequence[str], action: BulkAction, tag: str | None
) -> tuple[Outcome, list[int]]:
    rows: dict[str, Any] = {}
    tags: dict[int, list[str]] = {}
    for part in chunks(list(dict.fromkeys(serials))):
        query = (
            sa.select(Module.id, Module.serial, Module.kind, Credential.id.label("credential"), Credential.blocked_us)
            .join(Credential, Credential.module_id == Module.id, isouter=True)
            .where(Module.serial.in_(part))
        )
        found = connection.execute(query).all()
        rows.update((row.serial, row) for row in found)
        if tag is not None:
            tags |= _tags(connection, [row.id for row in found])
    affected, ids, left_out = [], [], []
    for serial in dict.fromkeys(serials):
        row = rows.get(serial)
        reason = "unknown" if row is None else _reason(row, tags.get(row.id, ()), action, tag)
        if reason is None and row is not None:
            affected.append(serial)
            ids.append(row.id)
        else:
            left_out.append((serial, reason or "unknown"))
    return Outcome(tuple(affected), tuple(left_out)), ids


def _reason(row: Any, tags: Sequence[str], action: BulkAction, tag: str | None) -> str | None:
    """Why an action changes nothing of a module, None when it does."""
    match action:
        case BulkAction.TAG:
            if tag in tags:
                return "has the tag"
            return "has too many tags" if len(tags) >= MOST_TAGS else None
        case BulkAction.UNTAG:
            return None if tag in tags else "has not the tag"
        case BulkAction.BLOCK | BulkAction.UNBLOCK:
            if row.credential is None:
                return "has no credential"
            if (row.blocked_us is not None) == (action is BulkAction.BLOCK):
                return "is blocked" if action is BulkAction.BLOCK else "is not blocked"
            return None
        case BulkAction.REKEY:
            return None if row.kind == CredentialKind.MODULE.value else "has no credential of its own"


def _act(connection: Connection, ids: Sequence[int], action: BulkAction, tag: str | None, now_us: int) -> None:
    match action:
        case BulkAction.TAG:
            rows = [{"module_id": module, "tag": tag} for module in ids]
            connection.execute(sa.insert(table(ModuleTag)), rows)
        case BulkAction.UNTAG:
            connection.execute(sa.delete(ModuleTag).where(ModuleTag.module_id.in_(ids), ModuleTag.tag == tag))
        case BulkAction.BLOCK | BulkAction.UNBLOCK:
            blocked_us = now_us if action is BulkAction.BLOCK else None
            connection.execute(sa.update(Credential).where(Credential.module_id.in_(ids)).values(blocked_us=blocked_us))
    if tag is not None:
        raised = {"version": Module.version + 1}
        connection.execute(sa.update(Module).where(Module.id.in_(ids)).values(raised))


def _rekey(connection: Connection, modules: Mapping[str, int], now_us: int) -> dict[str, str]:
    """New secrets for modules by serial and row; those that had no credential get one."""
    secrets = {serial: new_secret() for serial in modules}
    credentials = table(Credential)
    held: set[int] = set()
    for part in chunks(list(modules.values())):
        query = sa.select(Credential.module_id).where(
            Credential.module_id.in_(part), Credential.kind == CredentialKind.MODULE.value
        )
        held.update(number for number in connection.execute(query).scalars() if number is not None)
    renewed = [
        {"of_module": number, "new_hash": hash_secret(secrets[serial])}
        for serial, number in modules.items()
        if number in held
    ]
    if renewed:
        of_module = credentials.c.module_id == sa.bindparam("of_module")
        is_module = credentials.c.kind == CredentialKind.MODULE.value
        statement = sa.update(credentials).where(of_module, is_module).values(secret_sha256=sa.bindparam("new_hash"))
        connection.execute(statement, renewed)
    given = [
        {
            "username": serial,
            "kind": CredentialKind.MODULE.value,
            "module_id": number,
            "created_us": now_us,
            "secret_sha256": hash_secret(secrets[serial]),
        }
        for serial, number in modules.items()
        if number not in held
    ]
    if given:
        connection.execute(sa.insert(credentials), given)
    return secrets


def _done_by(connection: Connection, job_id: str, serials: Sequence[str], action: BulkAction) -> set[str]:
    """Those of some modules that a job has changed."""
    actions = table(Action)
    found: set[str] = set()
    for part in chunks([_subject(serial) for serial in serials]):
        query = sa.select(actions.c.subject).where(
            actions.c.subject.in_(part),
            actions.c.what == f"module.{action}",
            actions.c.after.contains(f'"job":"{job_id}"', autoescape=True),
        )
        found.update(subject.partition(":")[2] for subject in connection.execute(query).scalars())
    return found


def _row(connection: Connection, serial: str) -> Any:
    row = connection.execute(sa.select(table(Module)).where(Module.serial == serial)).one_or_none()
    if row is None:
        raise UnknownNameError("module", serial[:40])
    return row


def _raise_version(connection: Connection, before: Any, version: int, values: dict[str, Any]) -> None:
    # The version stands in the statement too: another process may write between our look and this.
    changed = connection.execute(
        sa.update(Module)
        .where(Module.id == before.id, Module.version == version)
        .values(version=Module.version + 1, **values)
    )
    if changed.rowcount == 0:
        raise VersionConflict


def _file(connection: Connection, serial: str) -> ModuleFile:
    row = _row(connection, serial)
    credential = connection.execute(
        sa.select(Credential.blocked_us, Credential.last_used_us).where(
            Credential.module_id == row.id, Credential.kind == CredentialKind.MODULE.value
        )
    ).one_or_none()
    channels = connection.execute(
        sa.select(Channel.number, Pairing.site_id, Site.city, Site.zone, Pairing.from_us)
        .join(Pairing, sa.and_(Pairing.channel_id == Channel.id, Pairing.to_us.is_(None)), isouter=True)
        .join(Site, isouter=True)
        .where(Channel.module_id == row.id)
        .order_by(Channel.number)
    )
    state = "none" if credential is None else "active" if credential.blocked_us is None else "blocked"
    return ModuleFile(
        serial=row.serial,
        kind=row.kind,
        dialect=row.dialect,
        period_ms=row.period_ms,
        firmware=row.firmware,
        hardware=row.hardware,
        collection=row.collection,
        created_us=row.created_us,
        note=row.note,
        version=row.version,
        tags=tuple(sorted(_tags(connection, [row.id]).get(row.id, ()))),
        credential=state,
        blocked_us=credential and credential.blocked_us,
        last_used_us=credential and credential.last_used_us,
        channels=tuple(ChannelPairing(*channel) for channel in channels),
    )


def _tags(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for module, tag in connection.execute(
        sa.select(ModuleTag.module_id, ModuleTag.tag).where(ModuleTag.module_id.in_(ids))
    ):
        found.setdefault(module, []).append(tag)
    return found


def _subject(serial: str) -> str:
    return f"module:{serial}"
