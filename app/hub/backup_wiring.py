"""Builds the backups of a running hub."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.domain.settings import Settings
from app.services.backups import Backups
from app.services.erasures import ErasureFollower, in_a_process
from app.services.jobs.backup import BackupFacts, BackupPlan, BackupProcess, MakeBackup, VerifyBackup
from app.services.jobs.jobs import Jobs
from app.stores.failpoints import ENVIRONMENT_VARIABLE
from app.stores.registry.actions import Deed, record
from app.stores.registry.registry import wall_clock_us

if TYPE_CHECKING:
    from app.hub.platform import DataPath

_PROGRAM = Path(__file__).resolve().parents[2] / "main.py"
_SETTINGS = ("backup.directory", "backup.at", "backup.keep")


class BackingUp:
    """The kinds of jobs of a hub's backups, which the jobs want before `start` wants the jobs."""

    def __init__(self, path: DataPath) -> None:
        self._path = path
        self._facts = BackupFacts()
        environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT_VARIABLE}
        if path.settings.registry.url:
            # Told on our command line perhaps, which the child does not see; nor shall others see it on the child's.
            environment["WATTDECK_REGISTRY_URL"] = path.settings.registry.url
        process = BackupProcess([sys.executable, str(_PROGRAM)], environment)
        words = [sys.executable, str(_PROGRAM), "backup", "--data", str(path.directory.root), "--erasures-only"]
        tell = in_a_process([*words, "--background"], environment)
        self.erasures = ErasureFollower(path.registry, lambda: self._plan().directory, tell)
        self.kinds = (
            MakeBackup(self._plan, process, self._facts, path.directory.root, wall_clock_us),
            VerifyBackup(self._plan, process, self._facts),
        )

    def start(self, jobs: Jobs) -> Backups:
        """The schedule runs from now on, counters are among the statistics."""
        path = self._path

        def note(deed: Deed) -> None:
            with path.registry.writing() as connection:
                record(connection, deed, wall_clock_us())

        backups = Backups(self._plan, self._facts, jobs, now_us=wall_clock_us, note=note)

        def changed(_settings: Settings) -> None:
            backups.plan_changed()

        path.runtime_settings.on_change(_SETTINGS, changed)
        path.supervisor.lasting("backups", backups.run)
        path.registry.on_erased.append(self.erasures.erased)
        path.supervisor.lasting("erasures", self.erasures.run)
        path.statistics.add("backup", lambda: {**backups.statistics(), **self.erasures.statistics()})
        return backups

    def _plan(self) -> BackupPlan:
        settings, root = self._path.runtime_settings.now, self._path.directory.root
        folder = root / settings.backup.directory if settings.backup.directory else None
        return BackupPlan(folder, settings.backup.at, settings.backup.keep, settings.store.time_zone)
