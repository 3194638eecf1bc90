"""Backups: what there is, making one, looking through one."""

from __future__ import annotations

from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from app.api.access import ApiRequest, needs
from app.api.routing import making, reading
from app.domain.people import Scope
from app.protocol.api.backups import BackupState, BackupWork
from app.services.backups import Backups
from app.stores.backup.directory import SNAPSHOT_PATTERN

Name = Annotated[
    str,
    PathParameter(
        pattern=SNAPSHOT_PATTERN,
        max_length=40,
        description="name of a snapshot",
        examples=[Example(value="20270115T080000Z-1a2b3c4d")],
    ),
]


def backup_routes(backups: Backups) -> list[HTTPRouteHandler]:
    """For whoever runs the platform."""

    @reading("/v1/backups", needs(Scope.BACKUPS), sync_to_thread=True)
    def backups_now() -> BackupState:
        """Schedule, snapshots (newest first), what runs now and what ran last."""
        return backups.state()

    @making("/v1/backups", needs(Scope.BACKUPS), status_code=202, sync_to_thread=True)
    def backup_start(request: ApiRequest) -> BackupWork:
        """Begin a backup, as a job of the kind backup; GET says how far it is. 409 while one is running."""
        return backups.start_backup(request.user)

    @making("/v1/backups/{snapshot:str}/verify", needs(Scope.BACKUPS), status_code=202, sync_to_thread=True)
    def backup_verify(request: ApiRequest, snapshot: Name) -> BackupWork:
        """Look through a snapshot, every byte; GET says how far it is, and then when it was verified."""
        return backups.start_verification(request.user, snapshot)

    return [backups_now, backup_start, backup_verify]
