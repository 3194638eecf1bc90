"""Supply periods in the database: a change of site, meter or holder ends a key and begins a new one at that instant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from app.domain.errors import BugError
from app.domain.keys import CollectionLevel, SupplyPeriod, SupplyPeriods
from app.stores.registry.chunks import chunks
from app.stores.registry.erasures import remember_erased
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.models import Channel, City, Holder, Key, KeyLedger, Module, Pairing, Site, TokenLedger, table
from app.stores.registry.records import KeyChange, KeyRecord, PairedAs, PairingRecord, Place

KeySource = Callable[[int], list[int]]
TokenSource = Callable[[], str]

# Two random keys of 63 bits meet once in 4 billion fleets of 48,000; the third attempt only fails for a broken source.
_ATTEMPTS = 3

_PERIOD = (Key.key, Key.from_us, Key.to_us, Key.collection_level, Key.pairing_id)


def give_keys(connection: Connection, count: int, draw: KeySource) -> list[int]:
    """New keys, written to the ledger."""
    for _ in range(_ATTEMPTS):
        keys = draw(count)
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(table(KeyLedger)), [{"key": key} for key in keys])
        except IntegrityError:
            continue
        return keys
    raise BugError("the source of series keys repeats itself")


def give_token(connection: Connection, draw: TokenSource, now_us: int) -> str:
    """A new holder with a new token."""
    for _ in range(_ATTEMPTS):
        token = draw()
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(table(TokenLedger)).values(token=token))
        except IntegrityError:
            continue
        connection.execute(sa.insert(table(Holder)).values(token=token, created_us=now_us))
        return token
    raise BugError("the source of tokens repeats itself")


def channel_id(connection: Connection, serial: str, number: int) -> int:
    """The row of a module's channel. Raises UnknownNameError."""
    query = sa.select(Channel.id).join(Module).where(Module.serial == serial, Channel.number == number)
    found = connection.execute(query).scalar()
    if found is None:
        raise UnknownNameError("channel", f"{number} of module {serial}")
    return found


def pair(connection: Connection, channel: int, at_us: int, paired: PairedAs, draw: KeySource) -> KeyChange:
    """Pair a channel that is not paired. Raises RefusedChangeError when it is, UnknownNameError."""
    if _current_pairing(connection, channel) is not None:
        raise RefusedChangeError("this channel is paired; end that pairing first, or change its meter or holder")
    if connection.execute(sa.select(Site.id).where(Site.id == paired.site_id)).scalar() is None:
        raise UnknownNameError("site", paired.site_id)
    _check_holder(connection, paired.holder)
    pairing = _open_pairing(connection, channel, paired.site_id, paired.meter_serial, at_us)
    return _begin_period(
        connection, channel, at_us, pairing=pairing, holder=paired.holder, level=paired.level, draw=draw
    )


def unpair(connection: Connection, channel: int, at_us: int, level: CollectionLevel, draw: KeySource) -> KeyChange:
    """End a pairing; what the module sends after it belongs to nobody. Raises RefusedChangeError when there is none."""
    _end_pairing(connection, channel, at_us)
    return _begin_period(connection, channel, at_us, pairing=None, holder=None, level=level, draw=draw)


def change_meter(
    connection: Connection, channel: int, at_us: int, meter_serial: str | None, draw: KeySource
) -> KeyChange:
    """A new meter on the same site: a new pairing and key for the same holder. Raises RefusedChangeError."""
    site_id = _end_pairing(connection, channel, at_us)
    current = _current_key(connection, channel)
    pairing = _open_pairing(connection, channel, site_id, meter_serial, at_us)
    level = CollectionLevel(current["collection_level"])
    return _begin_period(
        connection, channel, at_us, pairing=pairing, holder=current["holder_token"], level=level, draw=draw
    )


def change_holder(
    connection: Connection, channel: int, at_us: int, *, holder: str | None, level: CollectionLevel, draw: KeySource
) -> KeyChange:
    """A new holder of the same meter on the same site: a new key. Raises RefusedChangeError, UnknownNameError."""
    pairing = _current_pairing(connection, channel)
    if pairing is None:
        raise RefusedChangeError("this channel is not paired")
    _check_holder(connection, holder)
    return _begin_period(connection, channel, at_us, pairing=pairing["id"], holder=holder, level=level, draw=draw)


def set_level(connection: Connection, key: int, level: CollectionLevel) -> str:
    """Set a key's collection level; the serial of its module. Raises UnknownNameError."""
    changed = connection.execute(sa.update(Key).where(Key.key == key).values(collection_level=int(level)))
    if changed.rowcount == 0:
        raise UnknownNameError("key", key)
    return _serial_of(connection, key)


def erase_key(connection: Connection, key: int, at_us: int) -> str:
    """Remove a key that ended; its number stays in the ledger. The serial of its module.

    Raises:
        UnknownNameError: there is no such key.
        RefusedChangeError: its period goes on, so that new readings would have nowhere to go.
    """
    row = connection.execute(sa.select(Key.to_us, Key.pairing_id).where(Key.key == key)).one_or_none()
    if row is None:
        raise UnknownNameError("key", key)
    if row.to_us is None:
        raise RefusedChangeError("a key whose period goes on can not be erased; end the period first")
    serial = _serial_of(connection, key)
    connection.execute(sa.delete(Key).where(Key.key == key))
    if row.pairing_id is not None:
        # A pairing without any key left says nothing that may be kept.
        left = sa.select(Key.key).where(Key.pairing_id == row.pairing_id).exists()
        connection.execute(sa.delete(Pairing).where(Pairing.id == row.pairing_id, ~left))
    remember_erased(connection, f"key:{key}", at_us)
    return serial


def periods_of(connection: Connection, serial: str, number: int) -> SupplyPeriods:
    """The supply periods of one channel; none for a channel that is not registered."""
    query = sa.select(*_PERIOD).join(Channel).join(Module).where(Module.serial == serial, Channel.number == number)
    return SupplyPeriods(_period(row) for row in connection.execute(query))


def all_periods(connection: Connection, serials: Sequence[str] | None) -> dict[tuple[str, int], SupplyPeriods]:
    """The supply periods of every channel, or of those of some modules, by serial and channel number."""
    query = sa.select(Module.serial, Channel.number, *_PERIOD).join_from(Key, Channel).join(Module)
    parts = [query] if serials is None else [query.where(Module.serial.in_(part)) for part in chunks(serials)]
    found: dict[tuple[str, int], list[SupplyPeriod]] = {}
    for part in parts:
        for serial, number, *row in connection.execute(part):
            found.setdefault((serial, number), []).append(_period(row))
    return {channel: SupplyPeriods(periods) for channel, periods in found.items()}


def places(connection: Connection) -> dict[int, Place]:
    """City and time zone of every key that is or was assigned to a site."""
    query = (
        sa.select(Key.key, Site.city, City.number, Site.zone)
        .join_from(Key, Pairing)
        .join(Site)
        .join(City, City.name == Site.city)
    )
    known: dict[Place, Place] = {}
    found = {}
    for key, city, number, zone in connection.execute(query):
        place = Place(city, number, zone)
        found[key] = known.setdefault(place, place)
    return found


def key_record(connection: Connection, key: int) -> KeyRecord | None:
    """Whose a key is; None when it was never given, or erased."""
    query = (
        sa.select(*_PERIOD, Module.serial, Channel.number, Pairing.site_id, Pairing.meter_serial, Key.holder_token)
        .join_from(Key, Channel)
        .join(Module)
        .join(Pairing, Key.pairing_id == Pairing.id, isouter=True)
        .where(Key.key == key)
    )
    row = connection.execute(query).one_or_none()
    return (
        None
        if row is None
        else KeyRecord(
            period=_period(row[:5]),
            serial=row.serial,
            channel=row.number,
            site_id=row.site_id,
            meter_serial=row.meter_serial,
            holder=row.holder_token,
        )
    )


def pairings_of(connection: Connection, serial: str, number: int) -> list[PairingRecord]:
    """The pairings of one channel, oldest first."""
    query = (
        sa.select(Pairing.site_id, Pairing.meter_serial, Pairing.from_us, Pairing.to_us)
        .join_from(Pairing, Channel)
        .join(Module)
        .where(Module.serial == serial, Channel.number == number)
        .order_by(Pairing.from_us, Pairing.id)
    )
    return [PairingRecord(*row) for row in connection.execute(query)]


def _period(row: Sequence[Any]) -> SupplyPeriod:
    key, from_us, to_us, level, pairing_id = row
    return SupplyPeriod(key, from_us, to_us, CollectionLevel(level), pairing_id is not None)


def _serial_of(connection: Connection, key: int) -> str:
    query = sa.select(Module.serial).join_from(Key, Channel).join(Module).where(Key.key == key)
    return connection.execute(query).scalar_one()


def _check_holder(connection: Connection, holder: str | None) -> None:
    if holder is None:
        return
    if connection.execute(sa.select(Holder.token).where(Holder.token == holder)).scalar() is None:
        raise UnknownNameError("holder", holder)


def _current_key(connection: Connection, channel: int) -> RowMapping:
    query = sa.select(*_PERIOD, Key.holder_token).where(Key.channel_id == channel, Key.to_us.is_(None))
    return connection.execute(query).mappings().one()


def _current_pairing(connection: Connection, channel: int) -> RowMapping | None:
    query = sa.select(Pairing.id, Pairing.site_id, Pairing.from_us).where(
        Pairing.channel_id == channel, Pairing.to_us.is_(None)
    )
    return connection.execute(query).mappings().one_or_none()


def _open_pairing(connection: Connection, channel: int, site_id: int, meter_serial: str | None, at_us: int) -> int:
    values = {"channel_id": channel, "site_id": site_id, "meter_serial": meter_serial, "from_us": at_us}
    return int(connection.execute(sa.insert(Pairing).values(values).returning(Pairing.id)).scalar_one())


def _end_pairing(connection: Connection, channel: int, at_us: int) -> int:
    pairing = _current_pairing(connection, channel)
    if pairing is None:
        raise RefusedChangeError("this channel is not paired")
    _check_order(at_us, pairing["from_us"])
    connection.execute(sa.update(Pairing).where(Pairing.id == pairing["id"]).values(to_us=at_us))
    return int(pairing["site_id"])


def _begin_period(
    connection: Connection,
    channel: int,
    at_us: int,
    *,
    pairing: int | None,
    holder: str | None,
    level: CollectionLevel,
    draw: KeySource,
) -> KeyChange:
    current = _current_key(connection, channel)
    _check_order(at_us, current["from_us"])
    connection.execute(sa.update(Key).where(Key.key == current["key"]).values(to_us=at_us))
    (key,) = give_keys(connection, 1, draw)
    connection.execute(
        sa.insert(Key).values(
            key=key,
            channel_id=channel,
            pairing_id=pairing,
            holder_token=holder,
            from_us=at_us,
            collection_level=int(level),
        )
    )
    ended = _period([current["key"], current["from_us"], at_us, current["collection_level"], current["pairing_id"]])
    return KeyChange(ended, SupplyPeriod(key, at_us, None, level, pairing is not None))


def _check_order(at_us: int, from_us: int) -> None:
    if at_us < from_us:
        raise RefusedChangeError(
            "the change lies before the beginning of the period that goes on; undo later changes first"
        )
