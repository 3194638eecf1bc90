"""A copy of an older registry, made before a newer program changes it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path

from app.stores.registry.faults import RegistryFault, RegistryUpgradeRefused
from app.stores.registry.migrating import BeforeMigrating
from app.stores.registry.opening import Location
from app.stores.storage import Storage

# Beside the registry's file.
FOLDER = "before-upgrade"

log = logging.getLogger(__name__)


def copy_first(*, upgrade_server: bool) -> BeforeMigrating:
    """Copies an SQLite registry to `before-upgrade/vNNNN/registry.sqlite` beside it; an older copy there stays.

    Refuses a registry on a server (RegistryUpgradeRefused) unless `upgrade_server`: its owner has copied it then.
    """

    def before(location: Location, found: int, known: int) -> None:
        if location.path is None:
            if not upgrade_server:
                raise RegistryUpgradeRefused(location.place, found, known)
            log.warning("the registry %s is changed from version %d to %d without a copy", location.place, found, known)
            return
        try:
            copy = copy_of(location.path, found)
        except (OSError, sqlite3.Error) as problem:
            raise RegistryFault(location.place, f"it could not be copied before its upgrade: {problem}") from problem
        log.warning(
            "the registry has version %d and is brought to version %d; as it was it is kept in %s", found, known, copy
        )

    return before


def copy_of(path: Path, version: int, storage: Storage | None = None) -> Path:
    """Where the copy of an SQLite database is; raises OSError, or sqlite3.Error, and leaves nothing half done."""
    storage = storage or Storage()
    folder = path.parent / FOLDER / f"v{version:04}"
    storage.make_directory(folder)
    target = folder / path.name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    unfinished = folder / f"{target.name}.new"
    storage.unlink(unfinished)
    try:
        storage.write_file(unfinished, b"")
        unfinished.chmod(0o600)
        # By SQLite itself: what stands in the write-ahead log is part of it, too.
        with (
            contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(unfinished)) as copy,
        ):
            source.backup(copy)
            # One file, which nothing but itself is needed to read.
            copy.execute("PRAGMA journal_mode = DELETE")
        storage.sync_file(unfinished)
        storage.rename(unfinished, target)
        storage.sync_directory(folder)
    except BaseException:
        storage.unlink(unfinished)
        raise
    return target
