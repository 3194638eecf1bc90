"""What of journal and series store a backup takes: read-only, beside the hub that writes them.

The order is that of every reader: journal, then the roll-ups' state, then the tables. What leaves one has entered the
next, so nothing is missed; what is seen twice has a label that a restore passes over (docs/decisions/0007).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from app.stores.errors import StoreDamaged, StoreUnavailable
from app.stores.journal import segment_format
from app.stores.journal.segment_format import Damage, Header, NotASegment
from app.stores.series.delta.files import DataFile
from app.stores.series.delta.log import DeltaLog
from app.stores.series.delta.recovery import recover
from app.stores.series.delta_store import STATE_FOLDER
from app.stores.series.tables import SPECS
from app.stores.series.tier_memory import Change, Level, TierMemory, framed
from app.stores.series.tiering import newest_log
from app.stores.storage import ReadOnlyStorage

# While we look, the hub may merge files or cut its log: then we look again.
_TRIES = 8
_PAUSE_S = 0.05

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class SealedSegment:
    """A segment up to its last whole commit, with an end mark."""

    name: str
    header: Header
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A table at one version: the files of its log that say so, and its live data files."""

    name: str
    version: int
    log_files: tuple[Path, ...]
    data_files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        """As stored: a reading that came twice counts twice until files are merged."""
        return sum(file.rows for file in self.data_files)


@dataclasses.dataclass(frozen=True, slots=True)
class SeriesSnapshot:
    """Every table, and the roll-ups' state that goes with them."""

    tables: tuple[TableSnapshot, ...]
    state: bytes


def sealed_segments(journal: Path) -> Iterator[SealedSegment | str]:
    """Every segment of a journal, oldest first; the name alone of one that is none."""
    for path in sorted(journal.glob("*.wal")) if journal.is_dir() else []:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # In the tables since we looked: they are read after this.
            continue
        try:
            header = segment_format.decode_header(data)
        except NotASegment as problem:
            if data.strip(b"\0"):
                log.error("journal: %s is no segment and is not backed up: %s", path.name, problem)
                yield path.name
            # Else it was just begun: nothing of it has been acknowledged.
            continue
        yield SealedSegment(path.name, header, _sealed(data, header))


def series_snapshot(folder: Path) -> SeriesSnapshot:
    """The series store at this moment. Raises StoreUnavailable, StoreDamaged."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError, StoreDamaged):
            return _snapshot(folder)
        time.sleep(_PAUSE_S)
    try:
        return _snapshot(folder)
    except OSError as problem:
        raise StoreUnavailable(folder, problem) from problem


def _snapshot(folder: Path) -> SeriesSnapshot:
    before = TierMemory(newest_log(folder / STATE_FOLDER)[0])
    tables = tuple(found for name in SPECS if (found := _table(folder / name)) is not None)
    after = TierMemory(newest_log(folder / STATE_FOLDER)[0])
    return SeriesSnapshot(tables, framed(_state_of(before, after)))


def _state_of(before: TierMemory, after: TierMemory) -> Change:
    """What is made: as it was before the tables were read. What is gone for ever: as it is after.

    A window that was made in between is made again, by rows of a higher version. Raw rows that went in between must not
    be waited for: what is marked below the border can not be made again and does not have to be.
    """
    earlier, later = before.whole(), after.whole()
    floor = later.raw_floor or 0
    of_raw = (Level.TEN_MIN, Level.FLEET)
    return Change(
        mark={
            level: {start: keys for start, keys in buckets.items() if level not in of_raw or start >= floor}
            for level, buckets in earlier.mark.items()
        },
        horizons=earlier.horizons,
        erased=later.erased,
        raw_floor=later.raw_floor,
        version_limit=later.version_limit,
    )


def _table(folder: Path) -> TableSnapshot | None:
    storage = ReadOnlyStorage()
    delta_log = DeltaLog(folder, storage)
    if not delta_log.directory.is_dir():
        return None
    recovered = recover(folder, delta_log, storage)
    if recovered.state.version < 0:
        return None
    first = recovered.checkpoint + 1
    files = [delta_log.path_of(version) for version in range(first, recovered.state.version + 1)]
    if recovered.checkpoint >= 0:
        # The last entry it replaces too, if it is still there, is not needed.
        files.insert(0, delta_log.checkpoint_path(recovered.checkpoint))
    return TableSnapshot(folder.name, recovered.state.version, tuple(files), recovered.state.files())


def _sealed(data: bytes, header: Header) -> bytes:
    end = len(data)
    sealed = False
    for found in segment_format.frames(data, header.end, len(data)):
        if isinstance(found, Damage):
            # The end is a commit that is being written; damage further up is kept as it is, and reported by who reads.
            end = found.start if found.last else end
        else:
            sealed = found.table == segment_format.SEAL
    mark = b"" if sealed and end == len(data) else b"".join(segment_format.encode_frame(segment_format.SEAL, b""))
    return data[:end] + mark
