"""What the system allows: open files, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from app.hub.doctor.patient import Patient, ok, unknown, warning
from app.protocol.api.doctor import Finding

# Beside connections: stores, logs, workers.
_OTHER_FILES = 500
_MEGABYTE = 1_000_000
# The hub's libraries take 120 MB, a merge of the series store up to 512.
_LEAST_MEMORY_MB = 700
_SYSTEM_FILES = Path("/proc/sys/fs/file-nr")


def check_limits(patient: Patient) -> Iterator[Finding]:
    """Whether as many connections fit as the settings say, and whether there is memory for a merge."""
    yield _open_files(patient)
    yield from _system_files()
    found = psutil.virtual_memory()
    measured = f"{found.available // _MEGABYTE:,} MB of {found.total // _MEGABYTE:,} MB available"
    # What a running hub has is taken from it already.
    if found.available // _MEGABYTE < _LEAST_MEMORY_MB and patient.hub is None:
        yield warning("memory", measured, f"end other programs: a hub that merges needs {_LEAST_MEMORY_MB} MB")
    else:
        yield ok("memory", measured)


def _open_files(patient: Patient) -> Finding:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return unknown("files.open", "this system has no such limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = patient.settings.broker.max_connections + patient.settings.api.max_connections + _OTHER_FILES
    unlimited = hard == resource.RLIM_INFINITY
    allowed = "any number of" if unlimited else f"{hard:,}"
    measured = f"a process may open {allowed} files ({soft:,} at first); {wanted:,} are wanted at most"
    if not unlimited and hard < wanted:
        return warning(
            "files.open",
            measured,
            f"raise the hard limit (ulimit -Hn, LimitNOFILE=) or set broker.max_connections to {max(1, hard - 1000)}",
        )
    return ok("files.open", measured)


def _system_files() -> Iterator[Finding]:
    try:
        used, _free, most = map(int, _SYSTEM_FILES.read_text().split())
    except (OSError, ValueError):
        return
    measured = f"{used:,} of {most:,} files of the whole system are open"
    if used > most * 0.9:
        yield warning("files.system", measured, "raise fs.file-max")
    else:
        yield ok("files.system", measured)
