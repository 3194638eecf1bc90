"""A data directory, a folder of backups, and what tests do with both."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from app.hub.restore_command import facts_of
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.making import Source, make_backup
from app.stores.backup.restoring import Target, restore_backup
from app.stores.backup.verifying import verify_backup
from app.stores.registry.registry import Registry
from tests.app.stores.registry.conftest import postgres_cluster, postgres_url, registry_url  # noqa: F401 - fixtures
from tests.app.stores.registry.ticking import Ticking


class Stepping(Ticking):
    """A clock that a test moves."""

    def step(self):
        self.now_us += 1_000_000


class Case:
    """One hub's data and its backups."""

    def __init__(self, folder: Path, url: str):
        self.clock = Stepping()
        self.url = url
        self.data = folder / "data"
        self.data.mkdir()
        self.folder = folder
        self.directory = BackupDirectory(folder / "backups")
        self.registry = Registry.open(url, now_us=self.clock)

    def back_up(self, **options):
        source = Source(self.data, self.registry, "test")
        return make_backup(source, self.directory, now_us=self.clock, **options).manifest

    def verify(self, *names):
        return verify_backup(self.directory, names or None, now_us=self.clock)

    def restore(self, name="restored", *, snapshot=None, registry=None):
        """What came back, and the folder it is in."""
        root = self.folder / name
        target = Target(root, registry or root / "registry.sqlite", facts_of)
        return restore_backup(self.directory, snapshot, target, now_us=self.clock), root

    def files(self):
        return [path for path in self.directory.root.rglob("*") if path.is_file()]


@pytest.fixture
def case(tmp_path, registry_url):  # noqa: F811 - the fixture
    """With a registry of each kind."""
    made = Case(tmp_path, registry_url)
    with contextlib.closing(made.registry):
        yield made


@pytest.fixture
def small_case(tmp_path):
    """With an SQLite registry: for what does not depend on it."""
    made = Case(tmp_path, f"sqlite:///{tmp_path / 'live.sqlite'}")
    with contextlib.closing(made.registry):
        yield made
