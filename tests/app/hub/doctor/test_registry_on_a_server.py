"""The doctor on a hub whose registry is a PostgreSQL database."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from app.hub.data_directory import DataDirectory
from app.hub.doctor.databases import check_databases
from app.hub.doctor.examination import examine
from app.hub.doctor.patient import patient_of
from app.protocol.api.doctor import FindingState
from app.stores.registry.migrating import make_at_version, newest_version
from app.stores.registry.opening import locate
from app.stores.registry.registry import Registry
from tests.app.stores.registry.conftest import postgres_cluster, postgres_url  # noqa: F401 - fixtures

OK, _WARNING, FAILED, _UNKNOWN = FindingState


@pytest.fixture
def look(tmp_path):
    """What the doctor says of the registry of a URL."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()

    def found(url):
        directory.settings.write_text(f'[registry]\nurl = "{url}"\n')
        report = examine(patient_of(directory), (("registry", check_databases),))
        (finding,) = report.findings
        assert finding.check == "registry"
        assert not list(directory.root.glob("*.sqlite*"))
        return finding

    return found


@contextlib.contextmanager
def asking(url):
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def version_of(url):
    with asking(url) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_a_registry_that_answers(look, postgres_url):  # noqa: F811
    Registry.open(postgres_url).close()
    finding = look(postgres_url)
    assert finding.state is OK
    assert f"version {newest_version()}" in finding.measured


@pytest.mark.parametrize("version", range(1, newest_version()))
def test_an_older_one_is_named_and_left_as_it_is(look, postgres_url, version):  # noqa: F811
    make_at_version(locate(postgres_url), version)
    finding = look(postgres_url)
    assert (finding.state, "registry.upgrade = yes" in finding.advice) == (FAILED, True)
    assert int(version_of(postgres_url)) == version


def test_a_newer_one_wants_the_newer_program(look, postgres_url):  # noqa: F811
    Registry.open(postgres_url).close()
    with asking(postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    finding = look(postgres_url)
    assert (finding.state, "newer Wattdeck" in finding.advice) == (FAILED, True)
    assert version_of(postgres_url) == "0999"


def test_a_database_of_somebody_else(look, postgres_url):  # noqa: F811
    with asking(postgres_url) as connection:
        connection.execute("CREATE TABLE holiday (id int)")
    finding = look(postgres_url)
    assert (finding.state, "a database of its own" in finding.advice) == (FAILED, True)
    with asking(postgres_url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert names == [("holiday",)]


def test_an_empty_database_is_filled_at_the_first_start(look, postgres_url):  # noqa: F811
    finding = look(postgres_url)
    assert (finding.state, "first start" in finding.measured) == (OK, True)
    with asking(postgres_url) as connection:
        assert not connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()


@pytest.mark.parametrize(
    "url",
    [
        # No socket there, and nobody at the port.
        "postgresql+psycopg://ann:s3cr3t@/x?host={folder}",
        "postgresql+psycopg://ann:s3cr3t@127.0.0.1:1/x",
    ],
)
def test_a_server_that_is_down(look, tmp_path, url):
    finding = look(url.format(folder=tmp_path))
    assert (finding.state, "whether the server runs" in finding.advice) == (FAILED, True)
    assert "s3cr3t" not in finding.measured + finding.advice


def test_a_database_that_the_server_does_not_have(look, postgres_url):  # noqa: F811
    finding = look(postgres_url.replace("?", "nothing?"))
    assert finding.state is FAILED
