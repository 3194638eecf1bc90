"""Versions of the registry: new, older, newer, foreign, damaged; each is migrated whole or left alone."""

from __future__ import annotations

import concurrent.futures
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from app.domain.errors import BugError
from app.domain.keys import CollectionLevel
from app.stores.registry import migrating
from app.stores.registry.faults import (
    RegistryDamaged,
    RegistryForeignError,
    RegistryTooNew,
    RegistryTooOld,
    RegistryUnreachable,
)
from app.stores.registry.migrating import MIGRATIONS, bring_up_to_date, newest_version
from app.stores.registry.models import Base, personal_columns
from app.stores.registry.opening import connect, locate
from app.stores.registry.registry import Registry

DATABASES = Path(__file__).parents[3] / "databases"


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


def restore(dump_file: Path, path: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(dump_file.read_text(encoding="utf-8"))
    connection.close()
    return path


@pytest.fixture
def later_folder(tmp_path: Path) -> Path:
    """The migrations of a version to come: what there is, and two more."""
    folder = tmp_path / "later"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for number in (1, 2):
        write_script(
            folder, newest_version() + number, f'op.add_column("sites", sa.Column("extra{number}", sa.String))'
        )
    return folder


def write_script(folder: Path, version: int, body: str) -> None:
    script = f"""
        import sqlalchemy as sa
        from alembic import op

        revision = "{version:04}"
        down_revision = "{version - 1:04}"

        def upgrade():
            {body}
    """
    (folder / "versions" / f"v{version:04}_test.py").write_text(textwrap.dedent(script), encoding="utf-8")


def test_models_and_migrations_say_the_same(registry_url: str):
    location = locate(registry_url)
    bring_up_to_date(location)
    engine = connect(location, "read")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()

    assert differences == []


def test_a_new_registry_is_made_once_and_opened_twice(registry_url: str):
    location = locate(registry_url)

    assert bring_up_to_date(location) == 0
    assert bring_up_to_date(location) == newest_version()


def test_migrations_of_a_later_version_are_applied_and_then_refused_here(registry_url: str, later_folder: Path):
    Registry.open(registry_url).close()
    location = locate(registry_url)

    assert bring_up_to_date(location, later_folder) == newest_version()
    assert bring_up_to_date(location, later_folder) == newest_version() + 2

    with pytest.raises(RegistryTooNew) as refused:
        Registry.open(registry_url)
    assert (refused.value.found, refused.value.known) == (newest_version() + 2, newest_version())
    for part in (str(newest_version() + 2), str(newest_version()), "backup", location.place):
        assert part in refused.value.text()


def test_a_newer_file_is_not_touched(tmp_path: Path, later_folder: Path):
    path = tmp_path / "registry.sqlite"
    bring_up_to_date(locate(path), later_folder)
    before = path.read_bytes()

    with pytest.raises(RegistryTooNew):
        Registry.open(path)

    assert path.read_bytes() == before


def test_when_one_migration_fails_none_is_applied(registry_url: str, later_folder: Path):
    """The first of two new migrations succeeds and changes tables; the second fails in its middle."""
    with Registry.open(registry_url) as registry:
        registry.provision("WD-1")
        before = registry.modules(), registry.all_periods(), registry.credential_rows()
    location = locate(registry_url)
    broken = 'op.drop_table("keys"); op.execute("INSERT INTO nowhere VALUES (1)")'
    write_script(later_folder, newest_version() + 2, broken)
    path = location.path
    content = None if path is None else dump(path)

    with pytest.raises(BugError):
        bring_up_to_date(location, later_folder)

    if path is not None:
        assert dump(path) == content
    with Registry.open(registry_url) as registry:
        assert (registry.modules(), registry.all_periods(), registry.credential_rows()) == before


def test_a_process_killed_while_migrating_changed_nothing(tmp_path: Path, later_folder: Path):
    path = tmp_path / "registry.sqlite"
    with Registry.open(path) as registry:
        registry.provision("WD-1")
    before = dump(path)
    killed = 'op.drop_table("keys"); import os; os.kill(os.getpid(), 9)'
    write_script(later_folder, newest_version() + 2, killed)
    words = "from pathlib import Path; import sys; from app.stores.registry.migrating import bring_up_to_date as go; "
    words += "from app.stores.registry.opening import locate; go(locate(Path(sys.argv[1])), Path(sys.argv[2]))"

    ended = subprocess.run(
        [sys.executable, "-c", words, path, later_folder], cwd=Path(__file__).parents[4], check=False
    )

    assert ended.returncode == -signal.SIGKILL
    assert dump(path) == before
    with Registry.open(path) as registry:
        assert registry.module("WD-1") is not None


def test_two_hubs_that_start_together_migrate_once(registry_url: str):
    location = locate(registry_url)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        found = list(threads.map(lambda _: bring_up_to_date(location), range(3)))

    assert set(found) <= {0, newest_version()}
    assert bring_up_to_date(location) == newest_version()


def test_a_failing_migration_leaves_the_file_as_it_was_to_the_byte(tmp_path: Path, later_folder: Path):
    path = tmp_path / "registry.sqlite"
    Registry.open(path).close()
    before = path.read_bytes()
    write_script(later_folder, newest_version() + 2, 'raise RuntimeError("half way")')

    with pytest.raises(RuntimeError, match="half way"):
        bring_up_to_date(locate(path), later_folder)

    assert path.read_bytes() == before


def test_a_first_migration_that_fails_leaves_an_empty_database(registry_url: str, later_folder: Path):
    write_script(later_folder, newest_version() + 1, 'raise RuntimeError("half way")')
    location = locate(registry_url)

    with pytest.raises(RuntimeError, match="half way"):
        bring_up_to_date(location, later_folder)

    assert bring_up_to_date(location) == 0


def test_a_migration_that_breaks_references_is_undone(tmp_path: Path, later_folder: Path):
    path = tmp_path / "registry.sqlite"
    with Registry.open(path) as registry:
        registry.provision("WD-1")
    write_script(later_folder, newest_version() + 2, 'op.execute("DELETE FROM modules")')

    with pytest.raises(BugError, match="refer to nothing"):
        bring_up_to_date(locate(path), later_folder)

    with Registry.open(path) as registry:
        assert registry.module("WD-1") is not None


def test_a_migration_may_rebuild_a_table_that_others_refer_to(tmp_path: Path, later_folder: Path):
    """SQLite changes a column by making the table anew; with foreign keys on, that would delete the credentials."""
    path = tmp_path / "registry.sqlite"
    with Registry.open(path) as registry:
        registry.provision("WD-1")
    body = 'exec("with op.batch_alter_table(\\"modules\\", recreate=\\"always\\") as t: t.alter_column(\\"note\\", type_=sa.Text())")'
    write_script(later_folder, newest_version() + 2, body)

    bring_up_to_date(locate(path), later_folder)

    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM credentials").fetchall() == [(1,)]
    connection.close()


def test_a_database_of_another_program_is_left_alone(registry_url: str):
    location = locate(registry_url)
    engine = sa.create_engine(location.url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE recipes (name TEXT)"))
    engine.dispose()
    before = location.path.read_bytes() if location.path else b""

    with pytest.raises(RegistryForeignError, match="recipes"):
        Registry.open(registry_url)

    assert (location.path.read_bytes() if location.path else b"") == before


@pytest.mark.parametrize("version", ["abcdef123456", "-1", ""])
def test_a_version_that_is_none_of_ours_is_refused(tmp_path: Path, version: str):
    path = tmp_path / "registry.sqlite"
    Registry.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()

    with pytest.raises(RegistryForeignError, match="version"):
        Registry.open(path)


class TestDamagedFiles:
    def test_a_file_that_is_no_database(self, tmp_path: Path):
        path = tmp_path / "registry.sqlite"
        path.write_bytes(b"not a database at all, but long enough to look at" * 50)
        before = path.read_bytes()

        with pytest.raises(RegistryDamaged, match="left as it is") as damaged:
            Registry.open(path)

        assert damaged.value.place == str(path)
        assert path.read_bytes() == before

    def test_a_damaged_page(self, tmp_path: Path):
        path = tmp_path / "registry.sqlite"
        with Registry.open(path) as registry:
            registry.provision_many([f"WD-{n}" for n in range(500)])
        content = bytearray(path.read_bytes())
        content[8 * 4096 : 9 * 4096] = b"\xa5" * 4096
        path.write_bytes(content)

        with pytest.raises(RegistryDamaged, match="backup"):
            Registry.open(path)

        assert path.read_bytes() == content

    def test_a_file_cut_short(self, tmp_path: Path):
        path = tmp_path / "registry.sqlite"
        with Registry.open(path) as registry:
            registry.provision_many([f"WD-{n}" for n in range(500)])
        content = path.read_bytes()[: 10 * 4096 + 100]
        path.write_bytes(content)

        with pytest.raises(RegistryDamaged):
            Registry.open(path)

        assert path.read_bytes() == content


class TestOldDatabases:
    """Each version that was released is kept as SQL, made by `tests/databases/make.py`, and never changed again."""

    @pytest.mark.parametrize("version", range(1, newest_version() + 1))
    def test_it_opens_once_and_twice_with_everything_in_it(self, tmp_path: Path, version: int):
        path = restore(DATABASES / f"registry-v{version:04}.sql", tmp_path / "registry.sqlite")

        for _ in range(2):
            with Registry.open(path) as registry:
                assert [module.serial for module in registry.modules()] == ["CLAMP-1", "LINKY-1", "WD-1", "WD-2"]
                assert registry.module("CLAMP-1").channels == (1, 2, 3)  # type: ignore[union-attr]
                assert [record.username for record in registry.credentials()] == ["CLAMP-1", "WD-1", "WD-2", "gateway"]
                assert [row.username for row in registry.credential_rows() if row.blocked] == ["WD-2"]
                periods = registry.periods("WD-1").periods
                assert [p.level for p in periods] == [
                    CollectionLevel.SECOND,
                    CollectionLevel.DAILY,
                    CollectionLevel.NONE,
                ]
                assert [registry.places().get(p.key) is not None for p in periods] == [False, True, False]
                owner = registry.key(periods[1].key)
                assert owner is not None
                assert owner.meter_serial == "M-1"
                assert owner.holder is not None
                assert [site.city for site in registry.sites()] == ["Lyon", "Nantes"]

    def test_each_version_has_its_database(self):
        kept = {path.name for path in DATABASES.glob("registry-v*.sql")}

        assert kept == {f"registry-v{version:04}.sql" for version in range(1, newest_version() + 1)}

    @pytest.mark.parametrize("version", range(1, newest_version() + 1))
    def test_the_released_migrations_still_make_that_schema(self, tmp_path: Path, version: int):
        """Editing a released migration would make new databases differ from those in the field."""
        folder = tmp_path / "migrations"
        (folder / "versions").mkdir(parents=True)
        for script in (MIGRATIONS / "versions").glob("v*.py"):
            if int(script.name[1:5]) <= version:
                shutil.copy(script, folder / "versions")
        bring_up_to_date(locate(tmp_path / "new.sqlite"), folder)
        restore(DATABASES / f"registry-v{version:04}.sql", tmp_path / "old.sqlite")

        schemas = []
        for name in ("new.sqlite", "old.sqlite"):
            connection = sqlite3.connect(tmp_path / name)
            schemas.append(sorted(connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall(), key=str))
            connection.close()
        assert schemas[0] == schemas[1]


def test_personal_columns_are_marked():
    assert personal_columns() == {
        "access_log": ("subject",),
        "foreign_devices": ("device", "name", "facts"),
        "holders": ("token",),
        "keys": ("holder_token",),
        "modules": ("meter_serial",),
        "pairings": ("meter_serial",),
        "person_keys": ("secret",),
        "sites": ("street", "postcode", "delivery_point"),
    }


def test_migrations_are_found_inside_the_package():
    assert Path(migrating.__file__).parent == MIGRATIONS.parent


def test_a_registry_opened_to_read_is_never_made_or_migrated(tmp_path: Path):
    path = tmp_path / "registry.sqlite"
    with pytest.raises(RegistryUnreachable):
        Registry.open_to_read(path)
    assert not path.exists()

    old = sqlite3.connect(path)
    old.executescript((Path(__file__).parents[3] / "databases" / "registry-v0001.sql").read_text(encoding="utf-8"))
    old.close()
    before = path.read_bytes()
    with pytest.raises(RegistryTooOld, match="start its hub once"):
        Registry.open_to_read(path)
    assert path.read_bytes() == before

    Registry.open(path).close()
    with Registry.open_to_read(path) as registry:
        assert registry.module("WD-1") is not None
        with pytest.raises(RegistryUnreachable):
            Registry.open_to_read(tmp_path / "other.sqlite")
