"""What can go wrong with a backup, by fault."""

from __future__ import annotations

from pathlib import Path

from app.domain.errors import EnvironmentFault, OperatorInputError


class NotABackup(OperatorInputError):
    """The folder holds no backups, or not the one that was asked for."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")
        self.folder = folder


class BackupRefused(OperatorInputError):
    """What is asked for would harm what is there."""


class BackupDamaged(EnvironmentFault):
    """Files of a backup are not what was written; `problems` names each."""

    def __init__(self, folder: Path, problems: list[str]) -> None:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        super().__init__(f"the backup in {folder} is damaged: {shown}")
        self.folder = folder
        self.problems = problems


class BackupFailed(EnvironmentFault):
    """A backup or restore could not be finished; what was there before is whole."""
