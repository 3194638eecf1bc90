"""Builds the backups of a running hub."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app.services.backups import BackupPlan, Backups
from app.stores.failpoints import ENVIRONMENT_VARIABLE
from app.stores.registry.actions import Deed, record

if TYPE_CHECKING:
    from app.hub.platform import DataPath

_PROGRAM = Path(__file__).resolve().parents[2] / "main.py"


def backups_of(path: DataPath) -> Backups:
    """The backups of a hub: its schedule runs from now on, its counters are among the statistics."""
    settings = path.settings
    root = path.directory.root
    folder = root / settings.backup.directory if settings.backup.directory else None
    plan = BackupPlan(folder, settings.backup.at, settings.backup.keep, settings.store.time_zone)
    environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT_VARIABLE}
    if settings.registry.url:
        # Told on our command line perhaps, which the child does not see; nor shall others see it on the child's.
        environment["WATTDECK_REGISTRY_URL"] = settings.registry.url

    def now_us() -> int:
        return time.time_ns() // 1000

    def note(deed: Deed) -> None:
        with path.registry.writing() as connection:
            record(connection, deed, now_us())

    backups = Backups(plan, [sys.executable, str(_PROGRAM)], environment, root, now_us=now_us, note=note)
    path.supervisor.lasting("backups", backups.run)
    path.statistics.add("backup", backups.statistics)
    return backups
