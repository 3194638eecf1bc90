"""A backup that an older program made is restored by this one."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from app.domain.keys import CollectionLevel
from app.stores.backup.registry_load import DumpDamaged, load_dump, put_latest, read_dump, schema_version
from app.stores.backup.sealing import Opener
from app.stores.registry.faults import RegistryTooNew
from app.stores.registry.migrating import bring_up_to_date, make_at_version, newest_version
from app.stores.registry.opening import connect, locate
from app.stores.registry.registry import Registry

DATABASES = Path(__file__).parents[3] / "databases"
# As their version's models would have them: what is referred to first.
ORDER = (
    "modules",
    "cities",
    "sites",
    "key_ledger",
    "token_ledger",
    "holders",
    "channels",
    "credentials",
    "pairings",
    "keys",
)


def old_dump(version: int, path: Path) -> None:
    """What `write_dump` of that version would have written, for a registry without anything sealed."""
    connection = sqlite3.connect(":memory:")
    connection.executescript((DATABASES / f"registry-v{version:04}.sql").read_text(encoding="utf-8"))
    have = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    lines = [{"format": 1, "snapshot": "old", "schema_version": version}]
    rows = {}
    for table in (name for name in ORDER if name in have):
        cursor = connection.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        found = cursor.fetchall()
        binary = [name for at, name in enumerate(columns) if any(isinstance(row[at], bytes) for row in found)]
        lines.append({"table": table, "columns": columns, "binary": binary, "sealed": []})
        lines += [
            [*(base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell for cell in row), None]
            for row in found
        ]
        rows[table] = len(found)
    lines.append({"rows": rows})
    connection.close()
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        for line in lines:
            out.write(msgspec.json.encode(line) + b"\n")


@pytest.mark.parametrize("version", range(1, newest_version() + 1))
def test_a_dump_of_an_older_version_becomes_one_of_ours(tmp_path, registry_url, version):
    path = tmp_path / "dump"
    old_dump(version, path)
    location = locate(registry_url)
    make_at_version(location, schema_version(path))
    engine = connect(location, "write")
    with engine.begin() as connection:
        load_dump(connection, path, Opener({}), {}, 0)
    engine.dispose()
    assert bring_up_to_date(location) == version
    engine = connect(location, "write")
    with engine.begin() as connection:
        put_latest(connection, {}, [], 1)
    engine.dispose()

    with Registry.open(registry_url) as registry:
        assert [module.serial for module in registry.modules()] == ["CLAMP-1", "LINKY-1", "WD-1", "WD-2"]
        levels = [period.level for period in registry.periods("WD-1").periods]
        assert levels == [CollectionLevel.SECOND, CollectionLevel.DAILY, CollectionLevel.NONE]
        assert [row.username for row in registry.credential_rows() if row.blocked] == ["WD-2"]
        registry.provision("NEW-1")


def test_a_dump_of_a_newer_program_is_refused(tmp_path):
    with pytest.raises(RegistryTooNew):
        make_at_version(locate(tmp_path / "registry.sqlite"), newest_version() + 1)
    assert not (tmp_path / "registry.sqlite").exists()


@pytest.mark.parametrize("harm", ["cut", "lines", "format", "noise"])
def test_a_dump_that_is_none_says_so(tmp_path, harm):
    path = tmp_path / "dump"
    old_dump(1, path)
    text = pa.CompressedInputStream(str(path), "zstd").read()
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif harm == "noise":
        path.write_bytes(b"\xff" * 100)
    else:
        text = (
            text.replace(b'"format":1', b'"format":2')
            if harm == "format"
            else b"\n".join(text.split(b"\n")[:-3]) + b"\n"
        )
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(text)
    with pytest.raises(DumpDamaged):
        list(read_dump(path, Opener({})))
