"""What the environment does to the registry arrives as a sentence, and nothing is lost by it."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app.domain.credentials import CredentialKind, hash_secret
from app.domain.errors import BugError, EnvironmentFault, OperatorInputError
from app.stores.registry import opening
from app.stores.registry.faults import (
    RegistryBusy,
    RegistryDamaged,
    RegistryFault,
    RegistryFull,
    RegistryReadOnly,
    RegistryUnreachable,
    RegistryUrlError,
    faults_of,
)
from app.stores.registry.opening import connect, locate
from app.stores.registry.registry import Registry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


def set_pragma(registry: Registry, pragma: str) -> None:
    """Have the real driver meet a real limit."""
    with registry._writer.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {pragma}").close()


def test_a_full_disk_is_said_and_writing_goes_on_when_there_is_room(path: Path):
    with Registry.open(path) as registry:
        registry.provision("WD-0")
        set_pragma(registry, "max_page_count = 1")

        with pytest.raises(RegistryFull, match="free some space") as full:
            registry.provision_many([f"WD-{n}" for n in range(1, 2000)])
        assert isinstance(full.value, EnvironmentFault)
        assert [module.serial for module in registry.modules()] == ["WD-0"]

        set_pragma(registry, "max_page_count = 1000000")
        registry.provision_many([f"WD-{n}" for n in range(1, 2000)])
        assert len(registry.modules()) == 2000


def test_a_read_only_database_is_said(path: Path):
    with Registry.open(path) as registry:
        set_pragma(registry, "query_only = ON")

        with pytest.raises(RegistryReadOnly, match="permissions"):
            registry.provision("WD-1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_not_be_written(path: Path):
    path.parent.chmod(0o500)
    try:
        with pytest.raises(RegistryReadOnly):
            Registry.open(path)
    finally:
        path.parent.chmod(0o700)


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(RegistryUnreachable, match="No such file") as fault:
        Registry.open(tmp_path / "gone" / "registry.sqlite")

    assert not (tmp_path / "gone").exists()
    assert fault.value.text().startswith("the registry ")


def test_a_folder_in_place_of_the_file(tmp_path: Path):
    with pytest.raises(RegistryUnreachable):
        Registry.open(tmp_path)


def test_a_lock_that_is_held_too_long(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 10)
    with Registry.open(path) as registry:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(RegistryBusy, match="another process"):
            registry.provision("WD-1")
        assert registry.modules() == []

        other.execute("COMMIT")
        other.close()
        registry.provision("WD-1")


def test_a_short_lock_is_waited_for(path: Path):
    with Registry.open(path) as registry:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=registry.provision, args=("WD-1",))
        waiting.start()
        other.execute("COMMIT")
        waiting.join()
        other.close()

        assert registry.module("WD-1") is not None


def test_the_file_is_for_its_owner_alone_and_set_up_for_power_loss(path: Path):
    with Registry.open(path) as registry:
        registry.provision("WD-1")
        for file in path.parent.glob("registry.sqlite*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with registry._writer.connect() as connection:
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
            # 2 is FULL: a commit is synced before it is answered.
            assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_reading_connections_can_not_write(registry_url: str):
    Registry.open(registry_url).close()
    location = locate(registry_url)
    engine = connect(location, "read")

    with pytest.raises(RegistryReadOnly), faults_of(location.place), engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM sites"))
    engine.dispose()


def test_foreign_keys_hold(registry_url: str):
    with Registry.open(registry_url) as registry:
        registry.provision("WD-1")
        with pytest.raises(BugError), registry._writing() as connection:
            connection.execute(sa.text("DELETE FROM modules"))
        assert registry.module("WD-1") is not None


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.errors.DiskFull, RegistryFull),
        (psycopg.errors.ReadOnlySqlTransaction, RegistryReadOnly),
        (psycopg.errors.InsufficientPrivilege, RegistryReadOnly),
        (psycopg.errors.LockNotAvailable, RegistryBusy),
        (psycopg.errors.DeadlockDetected, RegistryBusy),
        (psycopg.errors.DataCorrupted, RegistryDamaged),
        (psycopg.errors.InvalidPassword, RegistryUnreachable),
        (psycopg.errors.TooManyConnections, RegistryUnreachable),
        (psycopg.errors.AdminShutdown, RegistryUnreachable),
        (psycopg.OperationalError, RegistryUnreachable),
        (psycopg.errors.SyntaxError, BugError),
        (psycopg.errors.UniqueViolation, BugError),
    ],
)
def test_errors_of_postgresql_by_fault(error: type[psycopg.Error], fault: type[Exception]):
    with pytest.raises(fault) as raised, faults_of("place"):
        raise sa.exc.DBAPIError.instance("SELECT 'personal'", {"name": "personal"}, error("why"), psycopg.Error)

    assert "personal" not in str(raised.value)


def test_secrets_are_not_in_the_files(path: Path):
    with Registry.open(path) as registry:
        secrets = [registry.provision("WD-1").secret, registry.add_credential("gw", CredentialKind.SOURCE)]
        secrets.append(registry.rotate_secret("gw"))

        content = b"".join(file.read_bytes() for file in path.parent.glob("registry.sqlite*"))
        assert hash_secret(secrets[0]) in content
        assert not any(secret.encode() in content for secret in secrets)


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "nonsense",
            "mysql://u:secret@h/d",
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///x?mode=ro",
            "sqlite+aiosqlite:///x",
            "postgresql+asyncpg//u:secret@h/d",
        ],
    )
    def test_what_can_not_be_a_registry_is_refused_without_repeating_a_password(self, url: str):
        with pytest.raises(RegistryUrlError) as refused:
            locate(url)

        assert isinstance(refused.value, OperatorInputError)
        assert "secret" not in refused.value.text()
        assert "registry.url" in refused.value.text()

    @pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
    def test_postgresql_is_reached_by_psycopg_and_its_password_is_not_shown(self, driver: str):
        location = locate(f"{driver}://wd:secret@db.example/wattdeck")

        assert location.url.drivername == "postgresql+psycopg"
        assert location.url.password == "secret"
        assert "secret" not in location.place
        assert not location.is_sqlite

    def test_a_server_that_does_not_answer(self, tmp_path: Path):
        with pytest.raises(RegistryUnreachable) as fault:
            Registry.open(f"postgresql://wd:secret@/wattdeck?host={tmp_path}")

        assert isinstance(fault.value, RegistryFault)
        assert "secret" not in fault.value.text()


class TestPostgresql:
    def test_a_database_that_does_not_exist(self, postgres_cluster: str):
        with pytest.raises(RegistryUnreachable, match="does not exist"):
            Registry.open(postgres_cluster.replace("/postgres?", "/nowhere?"))

    def test_a_connection_that_was_lost_is_made_again(self, postgres_url: str):
        with Registry.open(postgres_url) as registry:
            registry.provision("WD-1")
            engine = sa.create_engine(postgres_url)
            with engine.connect() as connection:
                connection.execute(
                    sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                )
            engine.dispose()

            registry.provision("WD-2")
            assert len(registry.modules()) == 2
