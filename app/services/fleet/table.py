"""The fleet as a table: an immutable state of what the registry knows of every module, in columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from app.ingest.directory import grown
from app.services.fleet.columns import FleetColumn, NameColumn, NumberColumn, SetColumn, Vocabulary, WordColumn
from app.stores.registry.fleet_rows import FleetRow

# Tags that a module may have: a row of numbers each.
MOST_TAGS = 16
_WORDS = ("kind", "dialect", "hardware", "firmware", "collection", "city")
_UNKNOWN = -1
# Columns of the registry that are numbers, and their types.
_NUMBERS: Mapping[str, type[np.generic]] = {
    "period_ms": np.int64,
    "site_id": np.int64,
    "created_us": np.int64,
    "version": np.int64,
    "blocked": np.int8,
    "last_used_us": np.int64,
}
_SERIAL_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True)
class FleetTable:
    """Rows are in no order of their own; `by_serial` is theirs. `slots` are those of the live arrays, -1: none yet."""

    columns: Mapping[str, FleetColumn]
    serials: npt.NDArray[np.bytes_]
    by_serial: npt.NDArray[np.intp]
    slots: npt.NDArray[np.int64]
    numbers: Mapping[str, npt.NDArray[Any]]
    city: WordColumn
    tags: SetColumn
    # Neither connects by itself: a meter on a serial port, a foreign device.
    sessionless: npt.NDArray[np.bool_]
    _rows: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.serials)

    def row(self, serial: str) -> int | None:
        """The row of a module, None when it has none (yet)."""
        row = self._rows.get(serial)
        # The mapping is the builder's own, and may know more than this state of it.
        return row if row is not None and row < len(self) else None

    def serial(self, row: int) -> str:
        """The module of a row."""
        return bytes(self.serials[row]).decode()

    def rows_of_site(self, site_id: int) -> npt.NDArray[np.intp]:
        """The modules that are paired with a site."""
        return np.flatnonzero(self.numbers["site_id"] == site_id)


class FleetTableBuilder:
    """Takes modules over as they change, and makes tables; one thread at a time."""

    def __init__(self, find_slot: Callable[[str], int | None]) -> None:
        self._find_slot = find_slot
        self._rows: dict[str, int] = {}
        self._count = 0
        self._serials = np.zeros(0, f"S{_SERIAL_BYTES}")
        self._slots = np.zeros(0, np.int64)
        self._codes = {name: np.zeros(0, np.int32) for name in _WORDS}
        self._numbers = {name: np.zeros(0, kind) for name, kind in _NUMBERS.items()}
        self._tags = np.zeros((0, MOST_TAGS), np.int32)
        self._vocabularies = {name: Vocabulary() for name in (*_WORDS, "tags")}
        self._order: npt.NDArray[np.intp] = np.zeros(0, np.intp)
        self._ranks: npt.NDArray[np.intp] = np.zeros(0, np.intp)

    def put(self, modules: Iterable[FleetRow]) -> list[int]:
        """Add modules, or replace what is known of them; their rows."""
        return [self._put(module) for module in modules]

    def table(self) -> FleetTable:
        """The state of now; later changes leave it as it is."""
        count = self._count
        serials = self._serials[:count].copy()
        if len(self._order) != count:
            self._order = np.argsort(serials, kind="stable")
            self._ranks = np.empty(count, np.intp)
            self._ranks[self._order] = np.arange(count)
        self._find_slots()
        numbers = {name: column[:count].copy() for name, column in self._numbers.items()}
        words = {
            name: WordColumn(codes[:count].copy(), *self._vocabularies[name].words())
            for name, codes in self._codes.items()
        }
        none = np.zeros(0, np.int32)
        tags = SetColumn(self._tags[:count].copy(), WordColumn(none, *self._vocabularies["tags"].words()))
        module_kind = [word == "module" for word in words["kind"].words]
        columns: dict[str, FleetColumn] = {
            "serial": NameColumn(serials, np.strings.lower(serials).astype(serials.dtype), self._ranks),
            **words,
            "tags": tags,
            "period_ms": _known(numbers["period_ms"]),
            "site_id": _known(numbers["site_id"]),
            "created_us": NumberColumn(numbers["created_us"]),
            "version": NumberColumn(numbers["version"]),
            "blocked": NumberColumn(numbers["blocked"] == 1, numbers["blocked"] == _UNKNOWN),
        }
        return FleetTable(
            columns=columns,
            serials=serials,
            by_serial=self._order,
            slots=self._slots[:count].copy(),
            numbers=numbers,
            city=words["city"],
            tags=tags,
            sessionless=~np.array([*module_kind, False], np.bool_)[words["kind"].codes],
            _rows=self._rows,
        )

    def _put(self, module: FleetRow) -> int:
        row = self._rows.get(module.serial)
        if row is None:
            row = self._count
            self._grow(row + 1)
            self._serials[row] = module.serial.encode()
            self._slots[row] = _UNKNOWN
            self._rows[module.serial] = row
            self._count = row + 1
        for name, codes in self._codes.items():
            codes[row] = self._vocabularies[name].code(getattr(module, name))
        for name, column in self._numbers.items():
            value = getattr(module, name)
            column[row] = _UNKNOWN if value is None else value
        vocabulary = self._vocabularies["tags"]
        codes_of = [vocabulary.code(tag) for tag in module.tags[:MOST_TAGS]]
        self._tags[row] = codes_of + [_UNKNOWN] * (MOST_TAGS - len(codes_of))
        return row

    def _find_slots(self) -> None:
        for row in np.flatnonzero(self._slots[: self._count] == _UNKNOWN):
            slot = self._find_slot(bytes(self._serials[row]).decode())
            if slot is not None:
                self._slots[row] = slot

    def _grow(self, size: int) -> None:
        if size <= len(self._slots):
            return
        capacity = max(1024, 2 * size)
        for name in ("_slots", "_tags"):
            setattr(self, name, grown(getattr(self, name), capacity))
        serials = np.zeros(capacity, self._serials.dtype)
        serials[: len(self._serials)] = self._serials
        self._serials = serials
        self._codes = {name: grown(codes, capacity) for name, codes in self._codes.items()}
        self._numbers = {name: grown(column, capacity) for name, column in self._numbers.items()}


def _known(numbers: npt.NDArray[Any]) -> NumberColumn:
    return NumberColumn(numbers, numbers == _UNKNOWN)
