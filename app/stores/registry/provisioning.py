"""Registers modules in bulk: module, channels, pairing, key and credential, a few statements for a whole fleet."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.orm import InstrumentedAttribute

from app.domain.credentials import CredentialKind, hash_secret, is_serial, new_secret
from app.domain.errors import OperatorInputError
from app.domain.keys import BEGINNING_US, CollectionLevel
from app.stores.registry.chunks import chunks
from app.stores.registry.faults import NameTakenError, UnknownNameError
from app.stores.registry.models import Channel, Credential, Key, Module, Pairing, Site, table
from app.stores.registry.records import Collection, ModuleKind, Provisioned
from app.stores.registry.supply import KeySource, give_keys

# A topic's channel number is one byte wide in the series store.
MAX_CHANNELS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """What the modules of one provisioning have in common.

    `sites` are cycled over the modules (none: their periods are unassigned); `level` is what may be kept of them.
    """

    kind: ModuleKind = ModuleKind.MODULE
    dialect: str = "wattdeck"
    period_ms: int | None = 1000
    channels: int = 1
    level: CollectionLevel = CollectionLevel.SECOND
    sites: tuple[int, ...] = ()
    firmware: str | None = None
    hardware: str | None = None
    meter_serial: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise OperatorInputError(f"a module has 1 to {MAX_CHANNELS} channels, not {self.channels}")


def register(connection: Connection, serials: Sequence[str], template: Template, now_us: int, draw: KeySource) -> None:
    """Register modules without credentials.

    Raises:
        OperatorInputError: a serial that can be none, or twice in the list.
        NameTakenError: some exist.
        UnknownNameError: a site of the template does not exist.
    """
    check_serials(connection, serials)
    _check_sites(connection, template.sites)
    if not serials:
        return
    ids = _insert_modules(connection, serials, template, now_us)
    channels = _insert_channels(connection, list(ids.values()), template.channels)
    site_of = {ids[serial]: site for serial, site in zip(serials, itertools.cycle(template.sites), strict=False)}
    pairings = _insert_pairings(connection, channels, site_of, template.meter_serial, now_us)
    keys = give_keys(connection, len(channels), draw)
    connection.execute(
        sa.insert(table(Key)),
        [
            {
                "key": key,
                "channel_id": channel,
                "pairing_id": pairings.get(channel),
                "from_us": BEGINNING_US,
                "collection_level": int(template.level),
            }
            for key, (channel, _module) in zip(keys, channels, strict=True)
        ],
    )


def give_credentials(connection: Connection, serials: Sequence[str], now_us: int) -> list[Provisioned]:
    """A credential for each registered module; the only time that the secrets are seen.

    Raises NameTakenError, UnknownNameError.
    """
    if taken := _existing(connection, Credential.username, serials):
        raise NameTakenError("credentials", taken)
    if not serials:
        return []
    ids = module_ids(connection, serials)
    for serial in serials:
        if serial not in ids:
            raise UnknownNameError("module", serial)
    given = [Provisioned(serial, serial, new_secret()) for serial in serials]
    connection.execute(
        sa.insert(table(Credential)),
        [
            {
                "username": serial,
                "kind": CredentialKind.MODULE.value,
                "secret_sha256": hash_secret(secret),
                "module_id": ids[serial],
                "created_us": now_us,
            }
            for serial, _, secret in given
        ],
    )
    return given


def missing_modules(connection: Connection, serials: Sequence[str]) -> list[str]:
    """Which of these are not registered, in order."""
    known = set(_existing(connection, Module.serial, serials))
    return [serial for serial in dict.fromkeys(serials) if serial not in known]


def module_ids(connection: Connection, serials: Sequence[str]) -> dict[str, int]:
    """The rows of registered modules."""
    return {
        serial: row
        for chunk in chunks(serials)
        for serial, row in connection.execute(sa.select(Module.serial, Module.id).where(Module.serial.in_(chunk)))
    }


def check_serials(connection: Connection, serials: Sequence[str]) -> None:
    """Raises OperatorInputError for what can be no serial or is there twice, NameTakenError for what is registered."""
    for serial in serials:
        if not is_serial(serial):
            raise OperatorInputError(f"{serial[:80]!r} can be no serial: 1 to 32 letters, digits, and _ . - inside")
    if len(set(serials)) != len(serials):
        raise OperatorInputError("a serial is in the list twice; nothing was changed")
    if taken := _existing(connection, Module.serial, serials):
        raise NameTakenError("modules", taken)


def _check_sites(connection: Connection, sites: Sequence[int]) -> None:
    known: set[int] = set()
    for chunk in chunks(sites):
        known.update(connection.execute(sa.select(Site.id).where(Site.id.in_(chunk))).scalars())
    for site in sites:
        if site not in known:
            raise UnknownNameError("site", site)


def _insert_modules(connection: Connection, serials: Sequence[str], template: Template, now_us: int) -> dict[str, int]:
    common = {
        "kind": template.kind.value,
        "dialect": template.dialect,
        "period_ms": template.period_ms,
        "firmware": template.firmware,
        "hardware": template.hardware,
        "meter_serial": template.meter_serial,
        "collection": Collection.ACTIVE.value,
        "created_us": now_us,
    }
    statement = sa.insert(table(Module)).returning(Module.serial, Module.id)
    rows = connection.execute(statement, [{"serial": serial, **common} for serial in serials])
    return {serial: module for serial, module in rows}  # noqa: C416 - dict() does not take rows of a typed result


def _insert_channels(connection: Connection, modules: Sequence[int], count: int) -> list[tuple[int, int]]:
    statement = sa.insert(table(Channel)).returning(Channel.id, Channel.module_id)
    rows = [{"module_id": module, "number": number} for module in modules for number in range(1, count + 1)]
    return [(channel, module) for channel, module in connection.execute(statement, rows)]


def _insert_pairings(
    connection: Connection,
    channels: Sequence[tuple[int, int]],
    site_of: Mapping[int, int],
    meter_serial: str | None,
    now_us: int,
) -> dict[int, int]:
    if not site_of:
        return {}
    statement = sa.insert(table(Pairing)).returning(Pairing.channel_id, Pairing.id)
    rows = [
        {
            "site_id": site_of[module],
            "channel_id": channel,
            "meter_serial": meter_serial,
            "from_us": now_us,
        }
        for channel, module in channels
    ]
    return {channel: pairing for channel, pairing in connection.execute(statement, rows)}  # noqa: C416 - as above


def _existing(connection: Connection, column: InstrumentedAttribute[str], names: Sequence[str]) -> list[str]:
    return [
        found
        for chunk in chunks(names)
        for found in connection.execute(sa.select(column).where(column.in_(chunk))).scalars()
    ]
