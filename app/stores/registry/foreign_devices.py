"""Devices of others in the database: heard, adopted as modules, ignored, forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from app.domain.keys import draw_keys
from app.domain.listing import Column, Found, Listing, SortBy
from app.protocol.foreign import serial_of
from app.stores.registry import places, provisioning, supply
from app.stores.registry.actions import Deed, record_many
from app.stores.registry.chunks import chunks
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.models import ForeignDevice, Module, ModuleTag, Site, table
from app.stores.registry.provisioning import Template
from app.stores.registry.records import (
    DevicesChanged,
    DeviceStanding,
    DeviceState,
    ModuleFacts,
    ModuleKind,
    ModulesChanged,
)
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import conditions_of, select_page

_rows = table(ForeignDevice)
_WORDS = ("name", "maker", "model", "firmware")
COLUMNS: Mapping[str, Column] = {
    "id": Column(int),
    "dialect": Column(str),
    "device": Column(str),
    "state": Column(str),
    "serial": Column(str),
    **{name: Column(str) for name in _WORDS},
    "power_kind": Column(str),
    "messages": Column(int),
    "first_seen_us": Column(int),
    "last_seen_us": Column(int),
}
_SQL: Mapping[str, ColumnElement[Any]] = {
    name: table(Module).c.serial if name == "serial" else _rows.c[name] for name in COLUMNS
}
_DEVICES = sa.select(_rows, table(Module).c.serial).join_from(
    _rows, table(Module), _rows.c.module_id == table(Module).c.id, isouter=True
)
_NOTED = ("facts", "power_kind", "last_seen_us", *_WORDS)
# What is not said this time was said before.
_NOTE = (
    sa.update(_rows)
    .where(_rows.c.id == sa.bindparam("of_id"))
    .values(
        messages=_rows.c.messages + sa.bindparam("more", type_=_rows.c.messages.type),
        **{
            name: sa.func.coalesce(sa.bindparam(f"new_{name}", type_=_rows.c[name].type), _rows.c[name])
            for name in _NOTED
        },
    )
)


class SeenDevice(NamedTuple):
    """What was heard of a device since it was written last; `facts` is JSON, None says nothing new."""

    dialect: str
    device: str
    facts: str | None
    name: str | None
    maker: str | None
    model: str | None
    firmware: str | None
    power_kind: str | None
    messages: int
    first_seen_us: int
    last_seen_us: int


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the registry knows it. Times are UTC microseconds; unknown is None."""

    id: int
    dialect: str
    device: str
    state: DeviceState
    serial: str | None
    facts: Mapping[str, Any]
    power_kind: str | None
    messages: int
    first_seen_us: int
    last_seen_us: int
    changed_by: str | None
    changed_us: int | None

    @property
    def standing(self) -> DeviceStanding:
        """What became of it."""
        return DeviceStanding(self.dialect, self.device, self.state, self.serial)


@dataclasses.dataclass(frozen=True, slots=True)
class DevicesMoved:
    """Which devices took a new state, and who was left as it is and why; by their numbers, in order."""

    moved: tuple[DeviceRecord, ...]
    left_out: tuple[tuple[int, str], ...]


class ForeignDevices:
    """Every method blocks."""

    def __init__(self, registry: Registry, *, now_us: Callable[[], int], keys: supply.KeySource = draw_keys) -> None:
        self._registry = registry
        self._now_us = now_us
        self._keys = keys

    def every(self) -> list[DeviceRecord]:
        """All of them."""
        with self._registry.reading() as connection:
            return [_record(row) for row in connection.execute(_DEVICES.order_by(_rows.c.id))]

    def page(self, listing: Listing) -> Found[DeviceRecord]:
        """Some of them; the latest discovered first when nothing is said."""
        if not listing.sort:
            listing = dataclasses.replace(listing, sort=(SortBy("first_seen_us", descending=True),))
        with self._registry.reading() as connection:
            found = select_page(connection, _DEVICES, _SQL, listing, last=_rows.c.id.desc())
        return Found([_record(row) for row in found.rows], found.total, found.offset, found.limit)

    def chosen(self, listing: Listing, most: int) -> list[int]:
        """The numbers of those that meet a listing's conditions, at most so many."""
        query = (
            _DEVICES.with_only_columns(_rows.c.id).where(*conditions_of(_SQL, listing)).order_by(_rows.c.id).limit(most)
        )
        with self._registry.reading() as connection:
            return list(connection.execute(query).scalars())

    def note(self, seen: Sequence[SeenDevice]) -> None:
        """Write what was heard of devices, in one transaction; nothing that people decided changes."""
        with self._registry.writing() as connection:
            known = _numbers(connection, seen)
            fresh = [one for one in seen if (one.dialect, one.device) not in known]
            again = [one for one in seen if (one.dialect, one.device) in known]
            if fresh:
                state = DeviceState.DISCOVERED.value
                connection.execute(sa.insert(_rows), [{**one._asdict(), "state": state} for one in fresh])
            if again:
                rows = [
                    {
                        "of_id": known[one.dialect, one.device],
                        "more": one.messages,
                        **{f"new_{name}": getattr(one, name) for name in _NOTED},
                    }
                    for one in again
                ]
                connection.execute(_NOTE, rows)

    def forget_unheard(self, before_us: int) -> list[DeviceStanding]:
        """Forget what was only discovered and not heard since; which."""
        gone = sa.and_(_rows.c.state == DeviceState.DISCOVERED.value, _rows.c.last_seen_us < before_us)
        with self._registry.writing() as connection:
            found = [_record(row).standing for row in connection.execute(_DEVICES.where(gone))]
            if found:
                connection.execute(sa.delete(_rows).where(gone))
        return found

    def adopt(self, actor: str, numbers: Sequence[int], *, site_id: int | None, tags: Sequence[str]) -> DevicesMoved:
        """Make devices modules, all that can be, in one transaction. Raises UnknownNameError for the site."""
        now_us = self._now_us()
        with self._registry.writing() as connection:
            if site_id is not None and connection.execute(sa.select(Site.id).where(Site.id == site_id)).first() is None:
                raise UnknownNameError("site", site_id)
            found, left_out = _found(connection, numbers)
            chosen, refused = _with_serials(connection, found)
            left_out += refused
            self._make_modules(connection, chosen, site_id, tags, now_us)
            ids = provisioning.module_ids(connection, list(chosen))
            for serial, device in chosen.items():
                _move(connection, device.id, DeviceState.ADOPTED, ids[serial], actor, now_us)
            about = {"site": site_id} if site_id is not None else {}
            deeds = [
                Deed(
                    actor,
                    "device.adopt",
                    f"module:{serial}",
                    None,
                    {"device": device.id, "dialect": device.dialect, **about},
                )
                for serial, device in chosen.items()
            ]
            record_many(connection, deeds, now_us)
            moved = _records(connection, [device.id for device in chosen.values()])
        if moved:
            self._registry.tell(ModulesChanged(tuple(chosen)))
            self._registry.tell(DevicesChanged(tuple(device.standing for device in moved)))
        return DevicesMoved(tuple(moved), tuple(left_out))

    def ignore(self, actor: str, numbers: Sequence[int], *, adopted_too: bool) -> DevicesMoved:
        """Say that devices are none of ours (any more); with `adopted_too` also of modules, which stay in the fleet."""
        before = {DeviceState.DISCOVERED, DeviceState.ADOPTED} if adopted_too else {DeviceState.DISCOVERED}
        return self._switch(actor, numbers, before, DeviceState.IGNORED, "device.ignore")

    def restore(self, actor: str, numbers: Sequence[int]) -> DevicesMoved:
        """Take ignored devices back among those that may be adopted; one that was a module becomes that one again."""
        return self._switch(actor, numbers, {DeviceState.IGNORED}, DeviceState.DISCOVERED, "device.restore")

    def _switch(
        self, actor: str, numbers: Sequence[int], before: AbstractSet[DeviceState], after: DeviceState, what: str
    ) -> DevicesMoved:
        now_us = self._now_us()
        with self._registry.writing() as connection:
            found, left_out = _found(connection, numbers)
            chosen = [device for device in found if device.state in before]
            left_out += [(device.id, _why_not(device)) for device in found if device.state not in before]
            for device in chosen:
                _move(connection, device.id, after, None, actor, now_us)
            deeds = [
                Deed(
                    actor,
                    what,
                    f"module:{device.serial}" if device.serial else f"device:{device.id}",
                    {"device": device.id, "state": device.state.value},
                    {"device": device.id, "state": after.value},
                )
                for device in chosen
            ]
            record_many(connection, deeds, now_us)
            moved = _records(connection, [device.id for device in chosen])
        if moved:
            self._registry.tell(DevicesChanged(tuple(device.standing for device in moved)))
        return DevicesMoved(tuple(moved), tuple(left_out))

    def _make_modules(
        self,
        connection: Connection,
        chosen: Mapping[str, DeviceRecord],
        site_id: int | None,
        tags: Sequence[str],
        now_us: int,
    ) -> None:
        missing = set(provisioning.missing_modules(connection, list(chosen)))
        sites = () if site_id is None else (site_id,)
        for dialect in sorted({device.dialect for device in chosen.values()}):
            serials = [one for one, device in chosen.items() if device.dialect == dialect and one in missing]
            template = Template(kind=ModuleKind.FOREIGN, dialect=dialect, period_ms=None, sites=sites)
            provisioning.register(connection, serials, template, now_us, self._keys)
        said = {serial: facts_of_module(device.facts) for serial, device in chosen.items() if device.facts}
        if said:
            places.set_facts_of_many(connection, said)
        ids = provisioning.module_ids(connection, sorted(missing))
        rows = [{"module_id": module, "tag": tag} for module in ids.values() for tag in sorted(set(tags))]
        if rows:
            connection.execute(sa.insert(table(ModuleTag)), rows)


def facts_of_module(facts: Mapping[str, Any]) -> ModuleFacts:
    """What of the recognised facts stands with a module; texts as long as its columns."""

    def text(name: str) -> str | None:
        value = facts.get(name)
        return value[:64] if isinstance(value, str) and value else None

    period = facts.get("period_ms")
    return ModuleFacts(
        period if isinstance(period, int) and period > 0 else None,
        text("firmware"),
        text("hardware") or text("model"),
        text("meter_serial"),
    )


def _numbers(connection: Connection, seen: Sequence[SeenDevice]) -> dict[tuple[str, str], int]:
    """The rows of those that are known."""
    return {
        (row.dialect, row.device): row.id
        for chunk in chunks([one.device for one in seen])
        for row in connection.execute(
            sa.select(_rows.c.id, _rows.c.dialect, _rows.c.device).where(_rows.c.device.in_(chunk))
        )
    }


def _records(connection: Connection, numbers: Sequence[int]) -> list[DeviceRecord]:
    found = {
        row.id: _record(row)
        for chunk in chunks(numbers)
        for row in connection.execute(_DEVICES.where(_rows.c.id.in_(chunk)))
    }
    return [found[number] for number in numbers if number in found]


def _found(connection: Connection, numbers: Sequence[int]) -> tuple[list[DeviceRecord], list[tuple[int, str]]]:
    asked = list(dict.fromkeys(numbers))
    found = _records(connection, asked)
    known = {device.id for device in found}
    return found, [(number, "there is no such device") for number in asked if number not in known]


def _with_serials(
    connection: Connection, found: Sequence[DeviceRecord]
) -> tuple[dict[str, DeviceRecord], list[tuple[int, str]]]:
    """Those that can be adopted by the serial that each gets, and why the others can not."""
    chosen: dict[str, DeviceRecord] = {}
    left_out: list[tuple[int, str]] = []
    for device in found:
        if device.state is not DeviceState.DISCOVERED:
            left_out.append((device.id, _why_not(device)))
            continue
        # A serial that somebody else has is made another by the hash of the id.
        for serial in (serial_of(device.dialect, device.device), serial_of(device.dialect, f"{device.device} ")):
            if serial not in chosen and _is_free(connection, serial, device.dialect):
                chosen[serial] = device
                break
        else:
            left_out.append((device.id, f"a module has its serial already: {serial}"))
    return chosen, left_out


def _is_free(connection: Connection, serial: str, dialect: str) -> bool:
    """Whether nobody has it, or a module of this dialect whose device was forgotten: it comes back to it then."""
    query = (
        sa.select(Module.kind, Module.dialect, ForeignDevice.id)
        .join(ForeignDevice, ForeignDevice.module_id == Module.id, isouter=True)
        .where(Module.serial == serial)
    )
    row = connection.execute(query).first()
    return row is None or (row.kind == ModuleKind.FOREIGN.value and row.dialect == dialect and row.id is None)


def _move(
    connection: Connection, number: int, state: DeviceState, module_id: int | None, actor: str, now_us: int
) -> None:
    values = {"state": state.value, "module_id": module_id, "changed_by": actor, "changed_us": now_us}
    connection.execute(sa.update(_rows).where(_rows.c.id == number).values(values))


def _why_not(device: DeviceRecord) -> str:
    match device.state:
        case DeviceState.ADOPTED:
            return f"it is adopted already, as {device.serial}"
        case DeviceState.IGNORED:
            return "it is ignored; restore it first"
        case DeviceState.DISCOVERED:
            return "it is not ignored"


def _record(row: Row[Any]) -> DeviceRecord:
    return DeviceRecord(
        row.id,
        row.dialect,
        row.device,
        DeviceState(row.state),
        row.serial,
        {} if row.facts is None else msgspec.json.decode(row.facts, type=dict[str, Any]),
        row.power_kind,
        row.messages,
        row.first_seen_us,
        row.last_seen_us,
        row.changed_by,
        row.changed_us,
    )
