"""Brings a registry to this program's version, in one transaction, and refuses what it must not touch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import alembic.runtime.migration
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.domain.errors import BugError
from app.stores.registry import migrations
from app.stores.registry.faults import (
    RegistryDamaged,
    RegistryForeignError,
    RegistryNotEmpty,
    RegistryTooNew,
    RegistryTooOld,
    RegistryUnreachable,
    faults_of,
)
from app.stores.registry.opening import Location, connect, make_file

MIGRATIONS = Path(migrations.__path__[0])

# Called with the location, the version found and the version to come, before anything of it is changed.
BeforeMigrating = Callable[[Location, int, int], None]


def newest_version(folder: Path = MIGRATIONS) -> int:
    """The version of the schema this program works with."""
    head = ScriptDirectory(folder).get_current_head()
    return 0 if head is None else int(head)


def bring_up_to_date(
    location: Location, folder: Path = MIGRATIONS, *, before_migrating: BeforeMigrating | None = None
) -> int:
    """Check a registry and migrate it if it is new or older; the version it had before (0: it was empty).

    Either every migration is applied or none. A database that is refused is not written to. `before_migrating` is
    called while the writer's lock is held, for a database that is not new; when it raises, nothing is changed.

    Raises:
        RegistryTooNew: a newer program wrote it.
        RegistryForeignError: it belongs to another program.
        RegistryDamaged: SQLite's own check finds it unsound.
        RegistryFault: it can not be reached, read or written.
    """
    make_file(location)
    known = newest_version(folder)
    found = _probe(location, known)
    if found < known:
        with faults_of(location.place):
            _migrate(location, folder, known, before_migrating)
    return found


def make_at_version(location: Location, version: int, folder: Path = MIGRATIONS) -> None:
    """Make the tables of an older version in an empty database, for rows of that version to be put back.

    Raises as `bring_up_to_date`, RegistryTooNew for a version that is not known here, and RegistryNotEmpty.
    """
    known = newest_version(folder)
    if version > known:
        raise RegistryTooNew(location.place, version, known)
    make_file(location)
    if _probe(location, known):
        raise RegistryNotEmpty(location.place)
    with faults_of(location.place):
        engine = connect(location, "migrate")
        try:
            with engine.begin() as connection:
                _run_scripts(connection, folder, f"{version:04}")
        finally:
            engine.dispose()


def check_up_to_date(location: Location, folder: Path = MIGRATIONS) -> None:
    """Check a registry that is only to be read; nothing is written, not even an empty file.

    Raises as `bring_up_to_date`, and RegistryTooOld when a hub has to migrate it first.
    """
    known = newest_version(folder)
    if location.path is not None and not location.path.exists():
        raise RegistryUnreachable(location.place, "there is no such file")
    found = _probe(location, known)
    if found < known:
        raise RegistryTooOld(location.place, found, known)


def _probe(location: Location, known: int) -> int:
    with faults_of(location.place):
        engine = connect(location, "probe")
        try:
            with engine.connect() as connection:
                _check_soundness(connection, location)
                found = _version(connection, location.place)
        finally:
            engine.dispose()
    if found > known:
        raise RegistryTooNew(location.place, found, known)
    return found


def _migrate(location: Location, folder: Path, known: int, before: BeforeMigrating | None) -> None:
    engine = connect(location, "migrate")
    try:
        with engine.begin() as connection:
            # Asked again now that we hold the writer's lock: another process may have been faster.
            found = _version(connection, location.place)
            if found > known:
                raise RegistryTooNew(location.place, found, known)
            if before is not None and 0 < found < known:
                before(location, found, known)
            _run_scripts(connection, folder, "head")
            if location.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()):
                raise BugError(f"registry: a migration left {len(broken)} rows that refer to nothing")
    finally:
        engine.dispose()


def _run_scripts(connection: Connection, folder: Path, target: str) -> None:
    scripts = ScriptDirectory(folder)

    def upgrades(revision: object, _context: object) -> list[alembic.runtime.migration.MigrationStep]:
        # Alembic has no public way to this list without its configuration file and environment script.
        return scripts._upgrade_revs(target, revision)  # type: ignore[arg-type,return-value] # noqa: SLF001 - see above

    # The connection is inside our transaction, so Alembic neither begins nor commits any.
    context = alembic.runtime.migration.MigrationContext.configure(connection, opts={"fn": upgrades, "script": scripts})
    with Operations.context(context):
        context.run_migrations()


def _version(connection: Connection, place: str) -> int:
    tables = set(sa.inspect(connection).get_table_names())
    if not tables:
        return 0
    if "alembic_version" not in tables:
        raise RegistryForeignError(place, f"it has a table {min(tables)} but no version")
    rows = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    if not rows and tables == {"alembic_version"}:
        return 0
    if len(rows) != 1 or not str(rows[0]).isdecimal() or int(rows[0]) < 1:
        raise RegistryForeignError(place, f"its version is {', '.join(map(str, rows)) or 'missing'}")
    return int(rows[0])


def _check_soundness(connection: Connection, location: Location) -> None:
    if not location.is_sqlite:
        return
    found = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
    if found != ["ok"]:
        raise RegistryDamaged(location.place, "; ".join(map(str, found)).replace("\n", " "))
