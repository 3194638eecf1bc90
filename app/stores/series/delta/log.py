"""The Delta log of one table: reading its state, and committing with the syncs that make a commit survive.

Written by ourselves, since deltalake syncs nothing and its commits slow down as the log grows
(docs/decisions/0003-delta-log.md).
Format: the Delta transaction log protocol (reader version 1, writer version 2), one JSON action a line.
"""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from app.stores.errors import StoreDamaged
from app.stores.series.delta.files import CommitLabel, DataFile
from app.stores.storage import Storage

FOLDER = "_delta_log"

_ENGINE = "wattdeck"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
# level, order, random part: what a restart must know of a file and Delta has no place for.
_DATA_FILE = re.compile(r"l([0-9])-([0-9]{20})-[0-9a-f]{32}\.parquet")
_DELTA_TYPES: dict[pa.DataType, str] = {
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.timestamp("us", tz="UTC"): "timestamp",
}


class Add(msgspec.Struct, frozen=True, rename="camel"):
    """A file that becomes part of the table."""

    path: str
    size: int
    modification_time: int
    data_change: bool
    stats: str | None = None
    partition_values: dict[str, str | None] = {}


class Remove(msgspec.Struct, frozen=True, rename="camel"):
    """A file that is no longer part of the table; its bytes stay for a while."""

    path: str
    data_change: bool
    deletion_timestamp: int | None = None
    extended_file_metadata: bool = True
    partition_values: dict[str, str | None] = {}
    size: int | None = None


class Txn(msgspec.Struct, frozen=True, rename="camel"):
    """The newest label of an application."""

    app_id: str
    version: int
    last_updated: int | None = None


class MetaData(msgspec.Struct, frozen=True, rename="camel"):
    """What the table is."""

    id: str
    schema_string: str
    format: dict[str, Any] = msgspec.field(default_factory=lambda: {"provider": "parquet", "options": {}})
    partition_columns: list[str] = []
    configuration: dict[str, str] = {}
    created_time: int | None = None


class Protocol(msgspec.Struct, frozen=True, rename="camel"):
    """What a reader and a writer must know."""

    min_reader_version: int
    min_writer_version: int


class Action(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One line of a log entry: exactly one of these."""

    add: Add | None = None
    remove: Remove | None = None
    txn: Txn | None = None
    meta_data: MetaData | None = None
    protocol: Protocol | None = None
    commit_info: dict[str, Any] | None = None


class _Stats(msgspec.Struct, rename="camel"):
    num_records: int
    min_values: dict[str, Any]
    max_values: dict[str, Any]
    null_count: dict[str, int] = {}


_decoder = msgspec.json.Decoder(Action)
_stats_decoder = msgspec.json.Decoder(_Stats)


@dataclass(slots=True)
class LogState:
    """The table after some version; `removed` are files whose bytes are still kept: name to (time in ms, size)."""

    version: int = -1
    meta_data: MetaData | None = None
    live: dict[str, DataFile] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    removed: dict[str, tuple[int, int]] = field(default_factory=dict)

    def apply(self, version: int, actions: Iterable[Action]) -> None:
        for action in actions:
            if action.add is not None:
                self.removed.pop(action.add.path, None)
                self.live[action.add.path] = data_file(action.add)
            elif action.remove is not None:
                name = action.remove.path
                self.live.pop(name, None)
                self.removed[name] = (action.remove.deletion_timestamp or 0, action.remove.size or 0)
            elif action.txn is not None:
                self.labels[action.txn.app_id] = action.txn.version
            elif action.meta_data is not None:
                self.meta_data = action.meta_data
        self.version = version

    def files(self) -> tuple[DataFile, ...]:
        """Live files, oldest rows first."""
        return tuple(sorted(self.live.values(), key=lambda file: (file.order, file.level, file.min_key, file.min_us)))


def now_ms() -> int:
    """Wall clock, for the log's own times; rows are never stamped here."""
    return time.time_ns() // 1_000_000


def new_file_name(level: int, order: int, tag: str = "") -> str:
    """`tag` (hexadecimal) begins the random part."""
    return f"l{level}-{order:020d}-{tag}{uuid.uuid4().hex[len(tag) :]}.parquet"


def add_action(file: DataFile, *, data_change: bool) -> Action:
    stats = _Stats(
        file.rows, {"key": file.min_key, "time": _text(file.min_us)}, {"key": file.max_key, "time": _text(file.max_us)}
    )
    return Action(add=Add(file.name, file.size_bytes, now_ms(), data_change, msgspec.json.encode(stats).decode()))


def remove_action(file: DataFile, *, data_change: bool) -> Action:
    return Action(remove=Remove(file.name, data_change, now_ms(), size=file.size_bytes))


def label_action(label: CommitLabel) -> Action:
    return Action(txn=Txn(label.app_id, label.version, now_ms()))


def data_file(add: Add) -> DataFile:
    """Raises ValueError for a file that this program did not write."""
    name = _DATA_FILE.fullmatch(add.path)
    if name is None or add.stats is None:
        raise ValueError(f"{add.path!r} is no data file of ours")
    stats = _stats_decoder.decode(add.stats)
    low, high = stats.min_values, stats.max_values
    return DataFile(
        name=add.path,
        order=int(name[2]),
        level=int(name[1]),
        rows=stats.num_records,
        size_bytes=add.size,
        min_key=int(low["key"]),
        max_key=int(high["key"]),
        min_us=_microseconds(low["time"]),
        max_us=_microseconds(high["time"]),
    )


def first_actions(schema: pa.Schema, configuration: Mapping[str, str]) -> list[Action]:
    """What makes a table."""
    return [
        Action(protocol=Protocol(1, 2)),
        Action(meta_data=meta_data(schema, configuration)),
    ]


def meta_data(schema: pa.Schema, configuration: Mapping[str, str], table_id: str | None = None) -> MetaData:
    return MetaData(
        id=table_id or str(uuid.uuid4()),
        schema_string=msgspec.json.encode(_delta_schema(schema)).decode(),
        configuration=dict(configuration),
        created_time=now_ms(),
    )


def schema_fields(meta: MetaData) -> dict[str, str]:
    """Column names and Delta types."""
    return {each["name"]: each["type"] for each in msgspec.json.decode(meta.schema_string)["fields"]}


def delta_fields(schema: pa.Schema) -> dict[str, str]:
    """Column names and Delta types an Arrow schema stands for; KeyError for a type Delta lacks."""
    return {each.name: _DELTA_TYPES[each.type] for each in schema}


class DeltaLog:
    """Files `_delta_log/<version>.json` and their checkpoints. Methods raise OSError as it comes."""

    def __init__(self, table: Path, storage: Storage) -> None:
        self.directory = table / FOLDER
        self._storage = storage

    def path_of(self, version: int) -> Path:
        return self.directory / f"{version:020d}.json"

    def versions(self) -> list[int]:
        return sorted(int(path.stem) for path in self.directory.glob("*.json") if re.fullmatch(r"[0-9]{20}", path.stem))

    def checkpoints(self) -> list[int]:
        """Versions of single-file checkpoints, which is all that deltalake writes for tables of our size."""
        found = (re.fullmatch(r"([0-9]{20})\.checkpoint\.parquet", path.name) for path in self.directory.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def checkpoint_path(self, version: int) -> Path:
        return self.directory / f"{version:020d}.checkpoint.parquet"

    def read(self, version: int) -> list[Action]:
        """Raises StoreDamaged when the entry is torn."""
        path = self.path_of(version)
        data = path.read_bytes()
        if not data.strip():
            raise StoreDamaged(path, "the log entry is empty")
        try:
            return _decoder.decode_lines(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            raise StoreDamaged(path, f"the log entry is torn: {problem}") from problem

    def commit(self, version: int, actions: Sequence[Action], operation: str) -> None:
        """Writes the entry and gives it its name, durable after `sync`; FileExistsError when another wrote it."""
        info = Action(commit_info={"timestamp": now_ms(), "operation": operation, "engineInfo": _ENGINE})
        data = b"".join(msgspec.json.encode(action) + b"\n" for action in (info, *actions))
        temporary = self.directory / f"_commit_{uuid.uuid4().hex}.json.tmp"
        self._storage.write_file(temporary, data)
        try:
            self._storage.put_if_absent(temporary, self.path_of(version))
        except OSError:
            self._storage.unlink(temporary)
            raise

    def clean(self, version: int, keep_s: float) -> None:
        """Unlinks entries and checkpoints older than `keep_s` that the synced checkpoint of `version` replaces."""
        before = time.time() - keep_s
        superseded = [self.path_of(each) for each in self.versions() if each < version]
        superseded += [self.checkpoint_path(each) for each in self.checkpoints() if each < version]
        old = [path for path in superseded if path.stat().st_mtime < before]
        for path in old:
            self._storage.unlink(path)
        if old:
            self.sync()

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.directory.iterdir())

    def sync(self) -> None:
        self._storage.sync_directory(self.directory)


def _text(time_us: int) -> str:
    return (_EPOCH + time_us * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _microseconds(text: str) -> int:
    return (dt.datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def _delta_schema(schema: pa.Schema) -> dict[str, Any]:
    types = delta_fields(schema)
    fields: Iterator[dict[str, Any]] = (
        {"name": each.name, "type": types[each.name], "nullable": each.nullable, "metadata": {}} for each in schema
    )
    return {"type": "struct", "fields": list(fields)}
