"""The registry as one file: JSON lines, zstd, every table of one moment, personal values sealed.

The first line says what it is; then for each table a line with its columns, and a line for each row: its values in the
order of the columns (null where sealed) and, last, null or what is sealed. The last line counts the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection, LargeBinary, Table

from app.stores.backup.personal import LEFT_OUT, PERSONAL, Links, links_of
from app.stores.backup.sealing import Sealer
from app.stores.registry.erasures import secrets_of
from app.stores.registry.migrating import newest_version
from app.stores.registry.models import Base
from app.stores.registry.registry import Registry

FORMAT = 1
_ROWS_AT_ONCE = 5_000
_BUFFER_BYTES = 1 << 20

_encode = msgspec.json.Encoder().encode


class Head(msgspec.Struct, frozen=True):
    """The first line."""

    format: int
    snapshot: str
    schema_version: int


class TableHead(msgspec.Struct, frozen=True):
    """The line before a table's rows."""

    table: str
    columns: list[str]
    # Base64 in the rows.
    binary: list[str]
    sealed: list[str]


class Foot(msgspec.Struct, frozen=True):
    """The last line."""

    rows: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Dumped:
    """What was written, and the keys that were drawn for it."""

    schema_version: int
    rows: Mapping[str, int]
    fresh_keys: Mapping[str, bytes]


def write_dump(registry: Registry, path: Path, snapshot: str) -> Dumped:
    """Write everything of one moment to a new file, not synced. Raises RegistryFault, OSError."""
    version = newest_version()
    with registry.reading_at_one_moment() as connection, pa.CompressedOutputStream(str(path), "zstd") as out:
        sealer = Sealer(secrets_of(connection))
        links = links_of(connection)
        out.write(_encode(Head(FORMAT, snapshot, version)) + b"\n")
        rows = {}
        buffer = bytearray()
        for table in Base.metadata.sorted_tables:
            if table.name in LEFT_OUT:
                continue
            count = 0
            for line in _lines(connection, table, sealer, links, snapshot):
                count += 1
                buffer += line
                buffer += b"\n"
                if len(buffer) >= _BUFFER_BYTES:
                    out.write(bytes(buffer))
                    buffer.clear()
            rows[str(table.name)] = count - 1
        buffer += _encode(Foot(rows)) + b"\n"
        out.write(bytes(buffer))
    return Dumped(version, rows, sealer.fresh)


def place_of(table: str, snapshot: str) -> bytes:
    """What sealed values are bound to."""
    return f"{snapshot}/{table}".encode()


def _lines(connection: Connection, table: Table, sealer: Sealer, links: Links, snapshot: str) -> Iterator[bytes]:
    personal = PERSONAL.get(table.name)
    columns = [str(column.name) for column in table.columns]
    binary = [str(column.name) for column in table.columns if isinstance(column.type, LargeBinary)]
    yield _encode(TableHead(str(table.name), columns, binary, list(personal.columns) if personal else []))
    at = [columns.index(name) for name in personal.columns] if personal else []
    place = place_of(table.name, snapshot)
    query = sa.select(*table.columns).order_by(*table.primary_key.columns)
    found = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
    for part in found.partitions():
        for row in part:
            if table.name == "token_ledger" and row.token in links.forgotten_tokens:
                continue
            values: list[Any] = list(row)
            seal = None
            if personal is not None and any(values[index] is not None for index in at):
                subjects = personal.subjects(dict(zip(columns, values, strict=True)), links)
                if subjects:
                    seal = sealer.seal(subjects, [values[index] for index in at], place)
                    for index in at:
                        values[index] = None
            values.append(seal)
            yield _encode(values)
