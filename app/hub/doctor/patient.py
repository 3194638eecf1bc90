"""What is examined, and how a finding is made."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from app.client.directory_lock import is_held
from app.domain.settings import Settings
from app.hub.configuration import SettingError, load_settings
from app.hub.data_directory import DataDirectory, read_status
from app.protocol.api.doctor import Finding, FindingState
from app.protocol.hub_file import HubFile

Statistics = Callable[[], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Patient:
    """A data directory, its settings, and the hub that runs on it (None: none; `starting`: it does not listen yet).

    `statistics` is there when the doctor is in that very hub. `began` is when we began, by wall clock and monotonic.
    """

    directory: DataDirectory
    settings: Settings
    settings_fault: str
    hub: HubFile | None
    is_locked: bool
    statistics: Statistics | None
    began: tuple[float, float]

    @property
    def ground(self) -> Path:
        """The data directory, or where it would be made."""
        return next(path for path in (self.directory.root, *self.directory.root.parents) if path.exists())


def patient_of(
    directory: DataDirectory, settings: Settings | None = None, statistics: Statistics | None = None
) -> Patient:
    """`settings` of a hub we are in; else they are read as a hub would, and when they are bad the defaults stand in."""
    fault = ""
    if settings is None:
        try:
            settings = load_settings(directory.root)
        except SettingError as error:
            settings, fault = Settings(), error.text()
    is_locked = is_held(directory.lock)
    return Patient(
        directory,
        settings,
        fault,
        read_status(directory) if is_locked else None,
        is_locked,
        statistics,
        (time.time(), time.monotonic()),
    )


def ok(check: str, measured: str) -> Finding:
    """As it should be."""
    return Finding(check, FindingState.OK, measured)


def warning(check: str, measured: str, advice: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(check, FindingState.WARNING, measured, advice)


def failed(check: str, measured: str, advice: str) -> Finding:
    """It does not work, or something is lost, or open to others."""
    return Finding(check, FindingState.FAILED, measured, advice)


def unknown(check: str, measured: str) -> Finding:
    """This machine does not tell."""
    return Finding(check, FindingState.UNKNOWN, measured)
