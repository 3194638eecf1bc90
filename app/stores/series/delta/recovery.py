"""Opening a table after whatever happened: its state from checkpoint and log, torn commits undone, orphans removed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from app.stores.errors import StoreDamaged
from app.stores.series.delta import parquet_format
from app.stores.series.delta.files import DataFile, Verification
from app.stores.series.delta.log import Action, Add, DeltaLog, LogState, MetaData, Remove, Txn, remove_action
from app.stores.storage import Storage

# Readers of Delta tables pass over names that begin with an underscore.
DAMAGED = "_damaged"

_PARQUET_END = b"PAR1"
_CHECKPOINT_COLUMNS = (
    *("add.path", "add.size", "add.stats", "add.modificationTime"),
    *("remove.path", "remove.deletionTimestamp", "remove.size"),
    *("txn.appId", "txn.version"),
    *("metaData.id", "metaData.schemaString", "metaData.configuration"),
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """The table's state, and what was mended on the way."""

    state: LogState
    found: Verification
    # Version of the checkpoint it was read from; -1 without one.
    checkpoint: int


def recover(table: Path, log: DeltaLog, storage: Storage, *, look_at_files: bool = True) -> Recovered:
    """Reads the table's state; version -1: there is no table yet. The data files may be elsewhere (`look_at_files`).

    Raises StoreDamaged when there is no way to the state, OSError when the disk refuses.

    A newest commit that is torn, or whose files are missing or short, is rolled back: its rows are still in the
    journal, which deletes a segment only after the commit was synced. One further back can only be blanked. Both are
    kept in `_damaged/`.
    """
    found = Verification()
    state, checkpoint = _from_checkpoint(table, log, storage)
    versions = [version for version in log.versions() if version > checkpoint]
    tail: list[tuple[int, list[Action] | None]] = []
    for version in versions:
        try:
            tail.append((version, log.read(version)))
        except StoreDamaged as damage:
            _log.error("%s", damage)
            tail.append((version, None))
    while tail and look_at_files and not _is_sound(table, tail[-1][1]):
        version, _actions = tail.pop()
        _log.error("%s: commit %d is torn and rolled back", table, version)
        _set_aside(table, log.path_of(version), storage)
        log.sync()
        found = replace(found, rolled_back_commits=found.rolled_back_commits + 1)
    expected = checkpoint + 1
    for version, actions in tail:
        if version != expected:
            raise StoreDamaged(log.path_of(expected), "the log entry is missing")
        expected += 1
        if actions is None:
            _log.error("%s: commit %d can not be read and is blanked", table, version)
            _set_aside(table, log.path_of(version), storage)
            log.commit(version, [], "RESTORE")
            log.sync()
            found = replace(found, blanked_commits=found.blanked_commits + 1)
        try:
            state.apply(version, actions or [])
        except (ValueError, KeyError, msgspec.MsgspecError) as problem:
            raise StoreDamaged(log.path_of(version), str(problem)) from problem
    if state.version < 0 and not log.checkpoints():
        return Recovered(state, found, checkpoint)
    if state.meta_data is None:
        raise StoreDamaged(log.directory, "neither a checkpoint nor the first log entry can be read")
    return Recovered(state, found, checkpoint)


def missing_files(table: Path, state: LogState) -> list[DataFile]:
    """Live files that are gone or have another size than the log says."""
    sizes = _sizes(table)
    return [file for file in state.live.values() if sizes.get(file.name) != file.size_bytes]


def removal_of(files: list[DataFile]) -> list[Action]:
    return [remove_action(file, data_change=True) for file in files]


def mend_checkpoint_hint(log: DeltaLog, storage: Storage) -> None:
    """Unlinks `_last_checkpoint` when it is torn or names a missing file: other readers would trip over it."""
    hint = log.directory / "_last_checkpoint"
    try:
        version = json.loads(hint.read_bytes())["version"]
        sound = log.checkpoint_path(int(version)).exists()
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        _log.warning("%s names no checkpoint and is removed", hint)
        storage.unlink(hint)
        log.sync()


def remove_orphans(table: Path, state: LogState, storage: Storage, *, keep: bool) -> int:
    """Removes data files no commit speaks of (a crash before the commit); `keep` sets them aside instead."""
    count = 0
    for name in _sizes(table):
        if name in state.live or name in state.removed:
            continue
        count += 1
        if keep:
            _set_aside(table, table / name, storage)
        else:
            storage.unlink(table / name)
    return count


def keep_copy(table: Path, name: str, storage: Storage) -> None:
    """A second name in `_damaged/` for a file that will be vacuumed."""
    folder = table / DAMAGED
    storage.make_directory(folder)
    if not (folder / name).exists():
        storage.link(table / name, folder / name)
        storage.sync_directory(folder)


def _from_checkpoint(table: Path, log: DeltaLog, storage: Storage) -> tuple[LogState, int]:
    for version in reversed(log.checkpoints()):
        try:
            with pq.ParquetFile(log.checkpoint_path(version)) as file:
                state = _state_of(file.read(columns=list(_CHECKPOINT_COLUMNS)), version)
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as problem:
            if isinstance(problem, (OSError, MemoryError)) and not parquet_format.is_damage(problem):
                raise
            # Out of the way of other readers too.
            _set_aside(table, log.checkpoint_path(version), storage)
            _log.error("%s can not be read, an older one is taken: %s", log.checkpoint_path(version), problem)
        else:
            return state, version
    return LogState(), -1


def _state_of(rows: pa.Table, version: int) -> LogState:
    state = LogState()
    state.apply(version, _actions_of(rows))
    if state.meta_data is None:
        raise ValueError("no table metadata")
    return state


def _actions_of(rows: pa.Table) -> Iterator[Action]:
    for row in rows.to_pylist():
        add, remove, txn, meta = row["add"], row["remove"], row["txn"], row["metaData"]
        if add and add["path"]:
            yield Action(
                add=Add(add["path"], add["size"], add["modificationTime"], data_change=False, stats=add["stats"])
            )
        elif remove and remove["path"]:
            yield Action(
                remove=Remove(
                    remove["path"],
                    data_change=False,
                    deletion_timestamp=remove["deletionTimestamp"],
                    size=remove["size"],
                )
            )
        elif txn and txn["appId"]:
            yield Action(txn=Txn(txn["appId"], txn["version"]))
        elif meta and meta["id"]:
            yield Action(
                meta_data=MetaData(meta["id"], meta["schemaString"], configuration=dict(meta["configuration"] or {}))
            )


def _is_sound(table: Path, actions: list[Action] | None) -> bool:
    """Whether a newest commit is whole: readable, and the files it added are there with their length and end mark."""
    if actions is None:
        return False
    return all(_is_whole(table / action.add.path, action.add.size) for action in actions if action.add is not None)


def _is_whole(path: Path, size: int) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(_PARQUET_END), 2)
            return file.read() == _PARQUET_END and file.tell() == size
    except FileNotFoundError:
        return False
    except OSError as problem:
        if path.stat().st_size >= len(_PARQUET_END):
            raise
        _log.warning("%s is shorter than any Parquet file: %s", path, problem)
        return False


def _sizes(table: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in table.glob("l*.parquet")}


def _set_aside(table: Path, path: Path, storage: Storage) -> None:
    folder = table / DAMAGED
    storage.make_directory(folder)
    target = folder / path.name
    number = 1
    while target.exists():
        target = folder / f"{path.name}.{number}"
        number += 1
    storage.rename(path, target)
    storage.sync_directory(folder)
    storage.sync_directory(path.parent)
