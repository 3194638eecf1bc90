"""Python, the libraries, and the settings."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sqlite3
import sys
from collections.abc import Iterator
from typing import NamedTuple

from app.hub.configuration import FILE_NAME
from app.hub.doctor.patient import Patient, failed, ok
from app.hub.version import VERSION
from app.protocol.api.doctor import Finding

_LEAST_PYTHON = (3, 11)


class KnownBad(NamedTuple):
    """Versions of a library, from first to last, that fail on Pythons older than one; and how."""

    package: str
    first: tuple[int, ...]
    last: tuple[int, ...]
    before_python: tuple[int, int]
    harm: str


KNOWN_BAD = (
    # docs/decisions/0002
    KnownBad("PySide6-Essentials", (6, 12), (6, 12, 0), (3, 12), "windows end in a fatal error within a minute"),
)
# What data pass through; shown so that a report tells them.
_SHOWN = ("deltalake", "pyarrow", "SQLAlchemy", "litestar", "uvicorn", "msgspec", "cryptography", "PySide6-Essentials")


def check_software(_patient: Patient) -> Iterator[Finding]:
    """Versions that are too old or known to be bad."""
    python = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        yield failed("software.python", python, "install Python 3.11 or newer")
    else:
        yield ok("software.python", f"Wattdeck {VERSION}, Python {python}, SQLite {sqlite3.sqlite_version}")
    found = {name: _version(name) for name in {*_SHOWN, *(bad.package for bad in KNOWN_BAD)}}
    faults = list(bad_versions(found, sys.version_info[:2]))
    yield from faults
    if not faults:
        listed = ", ".join(f"{name} {found[name]}" for name in _SHOWN if found[name])
        yield ok("software.libraries", listed)


def bad_versions(found: dict[str, str | None], python: tuple[int, ...]) -> Iterator[Finding]:
    """A finding for each known bad one."""
    for bad in KNOWN_BAD:
        version = found.get(bad.package)
        numbers = _numbers(version or "")
        if numbers and bad.first <= numbers <= bad.last and python < bad.before_python:
            yield failed(
                "software.libraries",
                f"{bad.package} {version} on Python {'.'.join(map(str, python))}: {bad.harm}",
                "run ./run once, which installs the versions of requirements.lock",
            )


def check_settings(patient: Patient) -> Iterator[Finding]:
    """Whether the settings can be read."""
    if patient.settings_fault:
        yield failed("settings", patient.settings_fault, "correct it; what follows is judged by the defaults")
    else:
        there = (patient.directory.root / FILE_NAME).exists()
        yield ok("settings", f"{FILE_NAME} is valid" if there else f"no {FILE_NAME}, the defaults hold")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
