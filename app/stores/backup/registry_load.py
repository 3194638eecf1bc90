"""A dump of the registry back into an empty database, without what was erased."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.keys import CollectionLevel, draw_keys
from app.stores.backup.personal import NAMED, PERSONAL, Lost
from app.stores.backup.registry_dump import FORMAT, Foot, Head, TableHead, place_of
from app.stores.backup.sealing import Opener, Sealed
from app.stores.registry.erasures import Erased
from app.stores.registry.models import Channel, Erasure, Key, KeyLedger, PersonKey, TokenLedger
from app.stores.registry.supply import give_keys

_ROWS_AT_ONCE = 2_000
_READ_BYTES = 1 << 20


class DumpDamaged(ValueError):
    """The dump is not what was written, though it may have its checksum."""


@dataclasses.dataclass(slots=True)
class Row:
    """A row of a dump. `lost`: the names of keys that are gone; the sealed values are None then."""

    table: TableHead
    values: dict[str, Any]
    lost: list[str]
    subjects: list[str]


@dataclasses.dataclass(slots=True)
class Loaded:
    """What came back, and what did not: `erased_keys` are series keys whose readings have to go too."""

    rows: dict[str, int] = dataclasses.field(default_factory=dict)
    blanked: int = 0
    dropped: int = 0
    erased_keys: set[int] = dataclasses.field(default_factory=set)
    # Numbers of the entries of the access log that came back without their subject.
    unnamed_entries: set[int] = dataclasses.field(default_factory=set)


def schema_version(path: Path) -> int:
    """Of a dump. Raises DumpDamaged."""
    return _head(next(_lines(path), b"")).schema_version


def read_dump(path: Path, opener: Opener) -> Iterator[Row]:
    """Every row, opened as far as its keys are there. Raises DumpDamaged, OSError."""
    lines = _lines(path)
    head = _head(next(lines, b""))
    table: TableHead | None = None
    counts: dict[str, int] = {}
    foot: Foot | None = None
    for line in lines:
        if line.startswith(b"{"):
            if line.startswith(b'{"table"'):
                table = _decoded(line, TableHead)
                counts[table.table] = 0
            else:
                foot = _decoded(line, Foot)
            continue
        if table is None:
            raise DumpDamaged("a row without a table")
        counts[table.table] += 1
        yield _row(_decoded(line, list), table, head.snapshot, opener)
    if foot is None or foot.rows != counts:
        raise DumpDamaged("it ends early")


def load_dump(connection: Connection, path: Path, opener: Opener, erased: Mapping[str, int], taken_us: int) -> Loaded:
    """Put the rows of a dump into the tables of its version, in the connection's transaction.

    `erased`: subject -> when. Whoever was erased after the dump was made does not come back, whether their key is gone
    or not. Raises DumpDamaged.
    """
    tables = sa.MetaData()
    tables.reflect(connection)
    loaded = Loaded()
    gone_pairings: set[int] = set()
    waiting: dict[str, list[dict[str, Any]]] = {}
    for row in read_dump(path, opener):
        name = row.table.table
        loaded.rows.setdefault(name, 0)
        lost = bool(row.lost) or any(erased.get(subject, -1) >= taken_us for subject in row.subjects)
        if name == "keys" and f"key:{row.values['key']}" in erased:
            # A number is never given twice: whenever it was erased, it stays erased.
            lost = True
        if lost and not _without_what_was_lost(row, loaded, gone_pairings):
            continue
        if name == "keys" and row.values["pairing_id"] in gone_pairings:
            row.values["pairing_id"] = None
        rows = waiting.setdefault(name, [])
        rows.append(row.values)
        loaded.rows[name] += 1
        if len(rows) >= _ROWS_AT_ONCE or len(waiting) > 1:
            _flush(connection, tables, waiting, keep=name)
    _flush(connection, tables, waiting, keep=None)
    if connection.dialect.name == "postgresql":
        _set_sequences(connection, tables)
    return loaded


def put_latest(connection: Connection, keys: Mapping[str, bytes], erased: Collection[Erased], now_us: int) -> None:
    """The latest keys and erasures, and whatever a key that did not come back leaves open."""
    for start in range(0, len(rows := sorted(keys.items())), _ROWS_AT_ONCE):
        part = [
            {"subject": subject, "secret": secret, "created_us": now_us}
            for subject, secret in rows[start : start + _ROWS_AT_ONCE]
        ]
        connection.execute(sa.insert(PersonKey), part)
    if erased:
        connection.execute(sa.insert(Erasure), [{"subject": each.subject, "at_us": each.at_us} for each in erased])
    tokens = sorted(each.subject.removeprefix("holder:") for each in erased if each.subject.startswith("holder:"))
    _into_ledger(connection, TokenLedger.token, [token for token in tokens if len(token) <= 12])
    numbers = [each.subject.removeprefix("key:") for each in erased if each.subject.startswith("key:")]
    _into_ledger(connection, KeyLedger.key, sorted(int(number) for number in numbers if number.isdecimal()))
    _close_gaps(connection, now_us)


def _without_what_was_lost(row: Row, loaded: Loaded, gone_pairings: set[int]) -> bool:
    """Takes the sealed values out of a row; whether the row comes back without them."""
    name = row.table.table
    rule = PERSONAL[name]
    if rule.lost is Lost.DROPPED:
        loaded.dropped += 1
        if name == "keys":
            loaded.erased_keys.add(row.values["key"])
        elif name == "pairings":
            gone_pairings.add(row.values["id"])
        return False
    loaded.blanked += 1
    if name == "access_log":
        loaded.unnamed_entries.add(row.values["number"])
    for column in row.table.sealed:
        row.values[column] = NAMED if rule.lost is Lost.NAMED else None
    return True


def _close_gaps(connection: Connection, now_us: int) -> None:
    """A channel whose current key is erased goes on with a new one; nothing is kept under it until it is paired."""
    current = sa.select(Key.channel_id).where(Key.to_us.is_(None))
    open_channels = connection.execute(sa.select(Channel.id).where(Channel.id.not_in(current))).scalars().all()
    if not open_channels:
        return
    keys = give_keys(connection, len(open_channels), draw_keys)
    rows = [
        {"key": key, "channel_id": channel, "from_us": now_us, "collection_level": int(CollectionLevel.NONE)}
        for key, channel in zip(keys, open_channels, strict=True)
    ]
    connection.execute(sa.insert(Key), rows)


def _into_ledger(connection: Connection, column: Any, values: list[Any]) -> None:
    for start in range(0, len(values), _ROWS_AT_ONCE):
        part = values[start : start + _ROWS_AT_ONCE]
        known = set(connection.execute(sa.select(column).where(column.in_(part))).scalars())
        rows = [{column.key: value} for value in part if value not in known]
        if rows:
            connection.execute(sa.insert(column.class_), rows)


def _flush(
    connection: Connection, tables: sa.MetaData, waiting: dict[str, list[dict[str, Any]]], keep: str | None
) -> None:
    for name in list(waiting):
        rows = waiting[name]
        if keep == name and len(rows) < _ROWS_AT_ONCE:
            continue
        if name not in tables.tables:
            raise DumpDamaged(f"it has a table {name!r} that its version does not know")
        connection.execute(sa.insert(tables.tables[name]), rows)
        del waiting[name]


def _set_sequences(connection: Connection, tables: sa.MetaData) -> None:
    """Rows came with their numbers: the next one must be above."""
    for table in tables.sorted_tables:
        for column in table.primary_key.columns:
            sequence = connection.execute(
                sa.select(sa.func.pg_get_serial_sequence(f'"{table.name}"', column.name))
            ).scalar()
            if sequence is not None:
                highest = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
                connection.execute(sa.select(sa.func.setval(sequence, highest, False)))


def _row(values: list[Any], table: TableHead, snapshot: str, opener: Opener) -> Row:
    if len(values) != len(table.columns) + 1:
        raise DumpDamaged(f"a row of {table.table} has {len(values) - 1} values instead of {len(table.columns)}")
    *plain, seal = values
    row = dict(zip(table.columns, plain, strict=True))
    for name in table.binary:
        if row[name] is not None:
            row[name] = base64.b64decode(row[name])
    if seal is None:
        return Row(table, row, [], [])
    names, data = seal
    sealed: Sealed = (names, base64.b64decode(data))
    lost = opener.missing(names)
    if not lost:
        try:
            opened = opener.open(sealed, place_of(table.table, snapshot))
        except ValueError as problem:
            raise DumpDamaged(f"a row of {table.table}: {problem}") from None
        row |= zip(table.sealed, opened, strict=True)
    return Row(table, row, lost, opener.subjects(names))


def _head(line: bytes) -> Head:
    head: Head = _decoded(line, Head)
    if head.format != FORMAT:
        raise DumpDamaged(f"it has format {head.format}, this program knows {FORMAT}")
    return head


def _decoded(line: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as problem:
        raise DumpDamaged(f"a line can not be read: {problem}") from None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with pa.CompressedInputStream(str(path), "zstd") as file:
            rest = b""
            while data := file.read(_READ_BYTES):
                *whole, rest = (rest + data).split(b"\n")
                yield from whole
    except (pa.ArrowException, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno:
            raise
        raise DumpDamaged(f"it can not be unpacked: {problem}") from None
    if rest:
        raise DumpDamaged("it ends within a line")
