"""Whether the series store's tables can be opened and are whole, beside a hub or without one; nothing is changed."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pyarrow as pa

from app.stores.errors import StoreDamaged
from app.stores.series.delta import log as delta_log
from app.stores.series.delta.recovery import missing_files, recover
from app.stores.series.delta_store import STATE_FOLDER
from app.stores.series.tables import TABLES
from app.stores.series.tiering import newest_log
from app.stores.storage import ReadOnlyStorage

# While we look, a hub may merge files or cut its log: then we look again.
_TRIES = 4
_PAUSE_S = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class TableFound:
    """A table as it would be opened; `faults` say what is wrong, the newest commit's files included."""

    name: str
    version: int = -1
    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    newest_us: int | None = None
    faults: tuple[str, ...] = ()


def inspect_series(folder: Path) -> list[TableFound]:
    """Every table that has been made, and the state of the roll-ups (version and files are then of its log)."""
    found = [_patiently(spec.name, folder / spec.name) for spec in TABLES if (folder / spec.name).exists()]
    state = folder / STATE_FOLDER
    if state.is_dir():
        changes, number = newest_log(state)
        logs = len(list(state.glob("tiers-*.log")))
        faults = ("no log of the roll-ups' state can be read",) if logs and not changes else ()
        found.append(TableFound(STATE_FOLDER, number, logs, faults=faults))
    return found


def _patiently(name: str, directory: Path) -> TableFound:
    for number in range(_TRIES):
        found = _inspect_table(name, directory)
        if not found.faults or number == _TRIES - 1:
            break
        time.sleep(_PAUSE_S)
    return found


def _inspect_table(name: str, directory: Path) -> TableFound:
    storage = ReadOnlyStorage()
    if not (directory / delta_log.FOLDER).is_dir():
        lonely = next(directory.glob("l*.parquet"), None)
        return TableFound(name, faults=("it has data files and no log",) if lonely is not None else ())
    try:
        recovered = recover(directory, delta_log.DeltaLog(directory, storage), storage)
        missing = missing_files(directory, recovered.state)
    except (StoreDamaged, OSError, pa.ArrowException) as problem:
        return TableFound(name, faults=(f"it can not be opened: {problem}",))
    faults = []
    if recovered.found.rolled_back_commits:
        faults.append(f"{recovered.found.rolled_back_commits} newest commits are torn; a hub rolls them back")
    if recovered.found.blanked_commits:
        faults.append(f"{recovered.found.blanked_commits} older commits can not be read")
    if missing:
        faults.append(f"{len(missing)} data files are missing or have another length, the first is {missing[0].name}")
    files = recovered.state.files()
    return TableFound(
        name,
        recovered.state.version,
        len(files),
        sum(file.rows for file in files),
        sum(file.size_bytes for file in files),
        max((file.max_us for file in files), default=None),
        tuple(faults),
    )
