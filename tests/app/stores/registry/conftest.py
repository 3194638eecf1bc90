"""A registry of each kind: SQLite always, PostgreSQL when its server is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.stores.registry.registry import Registry
from tests.app.stores.registry.ticking import Ticking


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


def server_binaries() -> Path | None:
    """The newest installed PostgreSQL server; Debian keeps it out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def unprivileged() -> list[str]:
    """What goes before a command of the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return []
    for user in ("postgres", "nobody"):
        if subprocess.run(["id", user], capture_output=True, check=False).returncode == 0:
            return ["runuser", "-u", user, "--"]
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """A throw-away cluster on a socket of its own; the URL of its maintenance database."""
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    as_user = unprivileged()
    if as_user and shutil.which(as_user[0]) is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no runuser to become somebody else")
    # Short: a socket's path has at most 107 characters. Not below pytest's folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="wdpg", dir="/tmp"))
    try:
        data = folder / "data"
        if as_user:
            shutil.chown(folder, as_user[2])
        initdb = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "wattdeck", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=folder)
        # Tests measure no durability of PostgreSQL; without it they are several times faster.
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=40"
        pg_ctl = [*as_user, binaries / "pg_ctl", "-D", data, "-w"]
        subprocess.run(
            [*pg_ctl, "-l", folder / "log", "-o", options, "start"], check=True, capture_output=True, cwd=folder
        )
        try:
            yield f"postgresql+psycopg://wattdeck@/postgres?host={folder}"
        finally:
            subprocess.run([*pg_ctl, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_cluster: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of its own for a test."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    server = postgres_cluster.replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield postgres_cluster.replace("/postgres?", f"/{name}?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not exist (SQLite) or is empty (PostgreSQL)."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def registry(registry_url: str, clock: Ticking) -> Iterator[Registry]:
    with contextlib.closing(Registry.open(registry_url, now_us=clock)) as opened:
        yield opened
