"""The SQLite files and the registry: sound, and of a version we know. Opened so that not one byte of them changes."""

from __future__ import annotations

import contextlib
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from app.domain.errors import WattdeckError
from app.hub.doctor.patient import Patient, failed, ok, warning
from app.protocol.api.doctor import Finding
from app.stores.registry.faults import RegistryForeignError, RegistryTooNew, RegistryTooOld
from app.stores.registry.migrating import check_up_to_date, newest_version
from app.stores.registry.opening import locate

_BUSY_S = 5.0
_RESTORE = "stop the hub and restore it from a backup, or move it away to start without it"


class _Unsound(Exception):
    """SQLite's own check finds faults."""


def check_databases(patient: Patient) -> Iterator[Finding]:
    """The registry, then every other database of the directory."""
    url = patient.settings.registry.url
    registry = patient.directory.registry
    if url:
        yield _elsewhere(url)
    elif registry.exists():
        yield _registry(registry, is_locked=patient.is_locked)
    else:
        yield ok("registry", "made at the first start")
    for path in sorted(patient.directory.root.glob("*.sqlite")):
        if path != registry or url:
            yield _other(path, is_locked=patient.is_locked)


def _elsewhere(url: str) -> Finding:
    try:
        location = locate(url)
        check_up_to_date(location)
    except RegistryTooOld as error:
        if error.found == 0:
            return ok("registry", f"{location.place} answers and is empty; it is filled at the first start")
        return failed("registry", error.text(), "back the server up, then start a hub with registry.upgrade = yes once")
    except RegistryTooNew as error:
        return failed("registry", error.text(), "install the newer Wattdeck again")
    except RegistryForeignError as error:
        return failed("registry", error.text(), "name a database of its own in registry.url")
    except WattdeckError as error:
        return failed("registry", error.text(), "see whether the server runs, and registry.url")
    return ok("registry", f"{location.place} answers, version {newest_version()}")


def _registry(path: Path, *, is_locked: bool) -> Finding:
    known = newest_version()
    try:
        with _opened(path, is_locked=is_locked) as database:
            rows = database.execute("SELECT version_num FROM alembic_version").fetchall()
            modules = database.execute("SELECT count(*) FROM modules").fetchone()[0]
    except (sqlite3.Error, _Unsound) as error:
        return failed("registry", f"{path.name}: {error}", _RESTORE)
    found = int(rows[0][0]) if len(rows) == 1 and str(rows[0][0]).isdecimal() else 0
    measured = f"{path.name} is sound, version {found}, {modules:,} modules"
    if found > known:
        return failed("registry", measured, f"this Wattdeck knows versions up to {known}; install the newer one again")
    if found < known:
        return warning("registry", measured, f"the next start of a hub migrates it to version {known}; make a backup")
    return ok("registry", measured)


def _other(path: Path, *, is_locked: bool) -> Finding:
    check = f"database.{path.stem}"
    try:
        with _opened(path, is_locked=is_locked):
            pass
    except (sqlite3.Error, _Unsound) as error:
        return failed(check, f"{path.name}: {error}", _RESTORE)
    return ok(check, f"{path.name} is sound, {path.stat().st_size / 1e6:,.1f} MB")


@contextlib.contextmanager
def _opened(path: Path, *, is_locked: bool) -> Iterator[sqlite3.Connection]:
    """A checked database. Raises sqlite3.Error, _Unsound."""
    # Without a hub and without a write-ahead log nothing can change under us; SQLite then makes no file beside it.
    alone = not is_locked and not path.with_name(path.name + "-wal").exists()
    uri = f"file:{urllib.parse.quote(str(path))}?{'immutable=1' if alone else 'mode=ro'}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as database:
        found = [row[0] for row in database.execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise _Unsound("; ".join(map(str, found)).replace("\n", " "))
        yield database
