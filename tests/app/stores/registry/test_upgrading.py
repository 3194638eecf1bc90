"""An older registry is kept as it was before it is changed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.stores.registry import upgrading
from app.stores.registry.faults import RegistryFault, RegistryUpgradeRefused
from app.stores.registry.migrating import MIGRATIONS, make_at_version, newest_version
from app.stores.registry.opening import locate
from app.stores.registry.registry import Registry

DATABASES = Path(__file__).parents[3] / "databases"


def old_registry(path: Path, version: int) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript((DATABASES / f"registry-v{version:04}.sql").read_text(encoding="utf-8"))
    connection.close()
    return path


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


@pytest.mark.parametrize("version", range(1, newest_version()))
def test_an_older_file_is_copied_first(tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int):
    path = old_registry(tmp_path / "registry.sqlite", version)
    before = dump(path)

    Registry.open(path).close()

    copy = tmp_path / "before-upgrade" / f"v{version:04}" / "registry.sqlite"
    assert dump(copy) == before
    assert copy.stat().st_mode & 0o077 == 0
    assert str(copy) in caplog.text
    # The copy is what it was: an older program, or this one, opens it.
    with Registry.open(copy) as registry:
        assert len(registry.modules()) == 4
    # Once is enough.
    Registry.open(path).close()
    assert [found.name for found in (tmp_path / "before-upgrade").iterdir()] == [f"v{version:04}"]


def test_what_stands_in_the_write_ahead_log_is_copied_too(tmp_path: Path):
    path = old_registry(tmp_path / "registry.sqlite", 1)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE modules SET note = 'new'")
    writer.commit()
    assert b"new" not in path.read_bytes()
    Registry.open(path).close()
    writer.close()
    (copy,) = (tmp_path / "before-upgrade" / "v0001").iterdir()
    assert any("'new'" in line for line in dump(copy))


def test_an_earlier_copy_stays(tmp_path: Path):
    folder = tmp_path / "before-upgrade" / "v0001"
    folder.mkdir(parents=True)
    (folder / "registry.sqlite").write_bytes(b"of the first try")
    Registry.open(old_registry(tmp_path / "registry.sqlite", 1)).close()
    assert (folder / "registry.sqlite").read_bytes() == b"of the first try"
    assert (folder / "registry-2.sqlite").exists()


def test_without_a_copy_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = old_registry(tmp_path / "registry.sqlite", 1)
    before = dump(path)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upgrading, "copy_of", full)
    with pytest.raises(RegistryFault, match="No space left"):
        Registry.open(path)
    assert dump(path) == before


def test_a_new_registry_has_nothing_to_be_copied(tmp_path: Path):
    Registry.open(tmp_path / "registry.sqlite").close()
    assert not (tmp_path / "before-upgrade").exists()


def test_an_older_registry_on_a_server_waits_for_its_owner(postgres_url: str):
    location = locate(postgres_url)
    make_at_version(location, 1)

    with pytest.raises(RegistryUpgradeRefused, match=r"pg_dump.*registry\.upgrade=yes"):
        Registry.open(postgres_url)

    engine = sa.create_engine(location.url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "0001"
    engine.dispose()
    Registry.open(postgres_url, upgrade_server=True).close()
    Registry.open(postgres_url).close()


def test_tables_of_an_older_version_can_be_made(tmp_path: Path):
    path = tmp_path / "registry.sqlite"
    make_at_version(locate(path), 1, MIGRATIONS)
    old = old_registry(tmp_path / "old.sqlite", 1)
    query = "SELECT type, name, sql FROM sqlite_master"
    found = [sorted(sqlite3.connect(each).execute(query).fetchall(), key=str) for each in (path, old)]
    assert found[0] == found[1]
