"""Journal and series store: every checksum, every newest file; and the clock against what they hold."""

from __future__ import annotations

from collections.abc import Iterator

from app.hub.doctor.clock import check_clock_against
from app.hub.doctor.patient import Patient, failed, ok, warning
from app.protocol.api.doctor import Finding
from app.stores.journal.inspection import JournalFound, inspect_journal
from app.stores.series.inspection import TableFound, inspect_series

_MANY_SEGMENTS = 30


def check_stores(patient: Patient) -> Iterator[Finding]:
    """Both, then the newest time in them."""
    newest = []
    try:
        journal = inspect_journal(patient.directory.journal)
    except OSError as error:
        yield failed("journal", f"it can not be read: {error}", "check owner and permissions, and the disk")
    else:
        yield from _journal(journal)
        newest.append(journal.newest_us)
    try:
        tables = inspect_series(patient.directory.series) if patient.directory.series.is_dir() else []
    except OSError as error:
        yield failed("series", f"it can not be read: {error}", "check owner and permissions, and the disk")
    else:
        yield from _series(tables)
        newest += [table.newest_us for table in tables if table.name == "raw"]
    yield check_clock_against(max((one for one in newest if one is not None), default=None), patient)


def _journal(found: JournalFound) -> Iterator[Finding]:
    measured = f"{found.segments} segments, {found.size_bytes / 1e6:,.1f} MB, every checksum is right"
    if found.damaged:
        more = f" and {len(found.damaged) - 1} more places" if len(found.damaged) > 1 else ""
        yield failed(
            "journal",
            f"{found.damaged[0]}{more}",
            "test the disk; a hub keeps the bytes in journal/damaged and reads what is good",
        )
    elif found.segments + found.not_looked_at > _MANY_SEGMENTS:
        left = f"; {found.not_looked_at} more were not looked at" if found.not_looked_at else ""
        yield warning("journal", measured + left, "see why the series store does not take them: logs/hub.log")
    else:
        yield ok("journal", measured)
    if found.set_aside:
        yield warning(
            "journal.damaged",
            f"{found.set_aside} files of damaged bytes were set aside earlier",
            "look into logs/hub.log for their day, test the disk, then delete journal/damaged",
        )


def _series(tables: list[TableFound]) -> Iterator[Finding]:
    for table in tables:
        if table.faults:
            yield failed(
                f"series.{table.name}",
                "; ".join(table.faults),
                "test the disk; a start of the hub mends what it can, a backup the rest",
            )
    whole = [table for table in tables if not table.faults]
    if whole or not tables:
        files, rows = sum(table.files for table in whole), sum(table.rows for table in whole)
        size = sum(table.size_bytes for table in whole) / 1e6
        yield ok("series", f"{len(whole)} tables are whole: {files:,} files, {rows:,} rows, {size:,.1f} MB")
