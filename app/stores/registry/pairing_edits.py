"""Pairings as people change them; each change with its deed in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.keys import CollectionLevel, draw_keys, draw_token
from app.stores.registry import supply
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.models import Channel, Key, Module, Pairing, Site
from app.stores.registry.records import ModulesChanged, PairedAs
from app.stores.registry.registry import Registry, wall_clock_us

# SQL knows no larger number; nothing has one.
_LARGEST_ID = 2**62


@dataclasses.dataclass(frozen=True, slots=True)
class PairingFile:
    """A pairing of one of a module's channels. Times are UTC microseconds; `to_us` None: it goes on."""

    channel: int
    site_id: int
    city: str
    meter_serial: str | None
    from_us: int
    to_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class CurrentSupply:
    """Whose the readings of a channel are now; what is personal of a module."""

    channel: int
    module_meter_serial: str | None
    site_id: int | None
    meter_serial: str | None
    holder: str | None
    level: CollectionLevel


_SUPPLIES = (
    sa.select(
        Module.serial,
        Channel.number,
        Module.meter_serial,
        Pairing.site_id,
        Pairing.meter_serial,
        Key.holder_token,
        Key.collection_level,
    )
    .join_from(Channel, Module)
    .join(Key, sa.and_(Key.channel_id == Channel.id, Key.to_us.is_(None)))
    .join(Pairing, Pairing.id == Key.pairing_id, isouter=True)
    .order_by(Channel.number)
)


class PairingEdits:
    """Every method blocks. Each raises UnknownNameError; those that change, RefusedChangeError."""

    def __init__(
        self,
        registry: Registry,
        *,
        now_us: Callable[[], int] = wall_clock_us,
        keys: supply.KeySource = draw_keys,
        token: supply.TokenSource = draw_token,
    ) -> None:
        self._registry = registry
        self._now_us = now_us
        self._keys = keys
        self._token = token

    def pairings(self, serial: str) -> list[PairingFile]:
        """The pairings of every channel, oldest first."""
        query = (
            sa.select(Channel.number, Pairing.site_id, Site.city, Pairing.meter_serial, Pairing.from_us, Pairing.to_us)
            .join_from(Pairing, Channel)
            .join(Site, Site.id == Pairing.site_id)
            .join(Module, Module.id == Channel.module_id)
            .where(Module.serial == serial)
            .order_by(Channel.number, Pairing.from_us, Pairing.id)
        )
        with self._registry.reading() as connection:
            _check_module(connection, serial)
            return [PairingFile(*row) for row in connection.execute(query)]

    def supplies(self, serial: str) -> list[CurrentSupply]:
        """Whose the readings of each channel are now."""
        with self._registry.reading() as connection:
            _check_module(connection, serial)
            return [_supply(row) for _serial, *row in connection.execute(_SUPPLIES.where(Module.serial == serial))]

    def supplies_of_many(self, serials: Sequence[str]) -> dict[str, CurrentSupply]:
        """The first channel's of those that are registered of a few hundred modules at most."""
        query = _SUPPLIES.where(Module.serial.in_(serials))
        found: dict[str, CurrentSupply] = {}
        with self._registry.reading() as connection:
            for serial, *row in connection.execute(query):
                found.setdefault(serial, _supply(row))
        return found

    def pair(
        self, actor: str, serial: str, channel: int, at_us: int, paired: PairedAs, *, new_holder: bool = False
    ) -> None:
        """Pair a channel with a site from a moment on; `new_holder`: with a holder made for it."""
        if not 0 < paired.site_id < _LARGEST_ID:
            raise UnknownNameError("site", str(paired.site_id)[:20])
        with self._registry.writing() as connection:
            row = supply.channel_id(connection, serial, channel)
            if new_holder:
                paired = dataclasses.replace(paired, holder=self._new_holder(connection))
            supply.pair(connection, row, at_us, paired, self._keys)
            facts = {"channel": channel, "site": paired.site_id, "at_us": at_us, "level": int(paired.level)}
            record(connection, Deed(actor, "pairing.begin", f"module:{serial}", None, facts), self._now_us())
        self._registry.tell(ModulesChanged((serial,)))

    def unpair(self, actor: str, serial: str, channel: int, at_us: int, level: CollectionLevel) -> None:
        """End a pairing."""
        with self._registry.writing() as connection:
            row = supply.channel_id(connection, serial, channel)
            supply.unpair(connection, row, at_us, level, self._keys)
            facts = {"channel": channel, "at_us": at_us, "level": int(level)}
            record(connection, Deed(actor, "pairing.end", f"module:{serial}", None, facts), self._now_us())
        self._registry.tell(ModulesChanged((serial,)))

    def change_meter(self, actor: str, serial: str, channel: int, at_us: int, meter_serial: str | None) -> None:
        """The site has a new meter from a moment on."""
        with self._registry.writing() as connection:
            row = supply.channel_id(connection, serial, channel)
            supply.change_meter(connection, row, at_us, meter_serial, self._keys)
            facts = {"channel": channel, "at_us": at_us, "meter_serial": "set" if meter_serial else None}
            record(connection, Deed(actor, "pairing.meter", f"module:{serial}", None, facts), self._now_us())
        self._registry.tell(ModulesChanged((serial,)))

    def change_holder(
        self,
        actor: str,
        serial: str,
        channel: int,
        at_us: int,
        *,
        holder: str | None,
        level: CollectionLevel,
        new_holder: bool = False,
    ) -> None:
        """The site has a new holder from a moment on; `new_holder`: one that is made for it."""
        with self._registry.writing() as connection:
            row = supply.channel_id(connection, serial, channel)
            chosen = self._new_holder(connection) if new_holder else holder
            supply.change_holder(connection, row, at_us, holder=chosen, level=level, draw=self._keys)
            facts = {"channel": channel, "at_us": at_us, "holder": "set" if chosen else None, "level": int(level)}
            record(connection, Deed(actor, "pairing.holder", f"module:{serial}", None, facts), self._now_us())
        self._registry.tell(ModulesChanged((serial,)))

    def _new_holder(self, connection: Connection) -> str:
        return supply.give_token(connection, self._token, self._now_us())


def _supply(row: Sequence[Any]) -> CurrentSupply:
    channel, module_meter, site_id, meter, holder, level = row
    return CurrentSupply(channel, module_meter, site_id, meter, holder, CollectionLevel(level))


def _check_module(connection: Connection, serial: str) -> None:
    if connection.execute(sa.select(Module.id).where(Module.serial == serial)).scalar() is None:
        raise UnknownNameError("module", serial[:40])
