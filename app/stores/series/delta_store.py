"""The embedded series store: Delta tables in one data folder."""

from __future__ import annotations

import dataclasses
import errno
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.domain.resolution import Resolution
from app.stores.errors import StoreUnavailable
from app.stores.failpoints import FailPoints
from app.stores.series import copying, erasure
from app.stores.series.delta.files import CommitLabel
from app.stores.series.fleet_view import FleetView
from app.stores.series.intake import Intake
from app.stores.series.interface import CopiedPiece, Recomputed, SegmentLabel, StoreSize
from app.stores.series.overlay import Overlay, Tail, no_tail
from app.stores.series.recomputing import Recomputing
from app.stores.series.rolling import Rolling
from app.stores.series.rollup import KeyFacts
from app.stores.series.tables import Tables
from app.stores.series.tiering import TierState
from app.stores.series.tiers import Retention
from app.stores.series.upkeep import Upkeep, UpkeepRules
from app.stores.storage import Storage

# Inside the store's folder, beside the tables.
STATE_FOLDER = "tiers"


class DeltaSeriesStore:
    """SeriesStore over Delta tables. One process may open a folder for writing; `disk_reader` reads it beside that.

    `tail(table)` gives the journal's rows that may not be appended yet, in order of commit, so that reads have them.
    `facts()` and `now_us()` are asked anew for each answer; `now_us` is the hub's clock. Where it runs ahead of
    `monotonic_s` by more than an hour, retention waits a day: a clock set wrong must not cost data.
    """

    def __init__(
        self,
        folder: Path,
        *,
        facts: Callable[[], KeyFacts],
        now_us: Callable[[], int],
        tail: Tail = no_tail,
        retention: Retention | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        rules: UpkeepRules | None = None,
        failpoints: FailPoints | None = None,
        storage: Storage | None = None,
    ) -> None:
        self._folder = folder
        rules = rules or UpkeepRules()
        self._tables = Tables(folder, keep_s=rules.keep_s, failpoints=failpoints, storage=storage)
        self._state = TierState(folder / STATE_FOLDER, storage)
        self._intake = Intake(self._tables, self._state, facts)
        rolling = Rolling(self._tables, self._state, self._intake, facts, failpoints)
        self._recomputing = Recomputing(self._tables, self._state, rolling, facts, now_us, failpoints)
        self._upkeep = Upkeep(
            self._tables, self._state, self._intake, rolling, retention or Retention(), rules, monotonic_s
        )
        self._overlay = Overlay(self._tables, self._state, facts, now_us, tail)
        self._fleet = FleetView(self._overlay)
        # Upkeep and whatever rewrites tables take turns; appends and reads do not wait for them.
        self._maintaining = threading.Lock()
        self._closed = False

    @property
    def done(self) -> Mapping[str, int]:
        """Steps of upkeep since the start, by kind."""
        return dict(self._upkeep.done)

    @property
    def unmade(self) -> int:
        """Buckets of keys that wait to be made anew."""
        return self._state.marks_count()

    def append(self, label: SegmentLabel, tables: Mapping[str, pa.Table]) -> bool:
        """See SeriesStore."""
        return self._intake.append(CommitLabel(label.journal_id, label.number), tables)

    def newest_label(self, journal_id: str) -> int:
        """The highest number appended of a journal's segments, -1 for none: the journal must not give it again."""
        return max((-1 if (found := table.last_label(journal_id)) is None else found) for _spec, table in self._tables)

    def note_fleet(self, rows: pa.Table) -> None:
        """Takes FLEET rows as summed up live: shown until the roll-up has made them from raw, never stored."""
        self._fleet.note(rows)

    def read(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> pa.Table:
        """See SeriesReader."""
        return self._overlay.read(key, start_us, end_us, resolution)

    def read_many(self, keys: Collection[int] | None, start_us: int, end_us: int) -> pa.Table:
        """See SeriesReader."""
        return self._overlay.ingested("raw", keys, start_us, end_us)

    def read_registers(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """See SeriesReader."""
        return self._overlay.registers(key, start_us, end_us)

    def read_aux(self, key: int, start_us: int, end_us: int) -> pa.Table:
        """See SeriesReader."""
        return self._overlay.aux(key, start_us, end_us)

    def read_group(self, group: int, start_us: int, end_us: int) -> pa.Table:
        """See SeriesReader."""
        return self._fleet.read(group, start_us, end_us)

    def latest(self, keys: Collection[int]) -> pa.Table:
        """See SeriesReader."""
        return self._overlay.newest(keys)

    def maintain(self, now_us: int) -> bool:
        """See SeriesStore."""
        with self._maintaining:
            try:
                return not self._closed and self._upkeep.step(now_us)
            except OSError as problem:
                raise StoreUnavailable(self._folder, problem) from problem

    def set_retention(self, retention: Retention) -> None:
        """Keep each tier so long from now on; what has gone stays gone. Waits for the present step of upkeep."""
        with self._maintaining:
            self._upkeep.set_retention(retention)

    def settle(self) -> None:
        """Waits for the merge in progress; for tests, benches and an orderly end."""
        with self._maintaining:
            self._upkeep.settle()

    def recompute(self, resolution: Resolution, keys: Collection[int], start_us: int, end_us: int) -> Recomputed:
        """See SeriesStore."""
        with self._maintaining:
            if self._closed:
                raise StoreUnavailable(self._folder, OSError(errno.EBADF, "the store is closed"))
            try:
                return self._recomputing.recompute(resolution, keys, start_us, end_us)
            except OSError as problem:
                raise StoreUnavailable(self._folder, problem) from problem

    def delete_key(self, key: int) -> int:
        """See SeriesStore."""
        return self.delete_keys([key])

    def delete_keys(self, keys: Collection[int]) -> int:
        """As `delete_key`, of several at once: each file is rewritten once."""
        if not keys:
            return 0
        with self._maintaining:
            # A merge in progress read the rows before: its outcome would bring them back, were it not refused.
            self._upkeep.interrupt()
            self._state.erase(keys)
            self._intake.forget(np.array(sorted(keys), np.int64))
            with self._intake.holding():
                # An append that began before the keys were erased is over now; later ones drop their rows.
                pass
            deleted = erasure.delete_rows(self._tables, keys)
            erasure.wipe(self._tables)
            erasure.prove_gone(self._tables, keys)
            return deleted

    def held(self, keys: Collection[int]) -> Mapping[str, int]:
        """Rows of some keys in each table as they lie there, every version; under "removed" files still kept."""
        found = {
            spec.name: table.scan(["key"], keys=sorted(set(keys))).num_rows if spec.of_key and keys else 0
            for spec, table in self._tables
        }
        live = {f"{spec.name}/{Path(file.name).name}" for spec, table in self._tables for file in table.files()}
        return found | {"removed": len(set(erasure.files_with(self._tables, keys)) - live) if keys else 0}

    def forget_keys(self, keys: Collection[int]) -> None:
        """What is appended for these keys from now on is dropped; `delete_keys` removes what is there."""
        if keys:
            self._state.erase(keys)

    def mended(self) -> list[str]:
        """What opening had to mend, and what is not on disk as the logs say; nothing for a sound store."""
        found = []
        for spec, table in self._tables:
            for looked in (table.verification, table.verify()):
                counts = dataclasses.asdict(looked).items()
                found += [f"table {spec.name}: {count} {what.replace('_', ' ')}" for what, count in counts if count]
        return found

    def versions(self) -> Mapping[str, int]:
        """The version of each table's log."""
        return {spec.name: table.version for spec, table in self._tables}

    def sizes(self) -> Mapping[str, StoreSize]:
        """See SeriesReader."""
        found = {}
        for spec, table in self._tables:
            sizes = table.sizes()
            found[spec.name] = StoreSize(sizes.rows, sizes.live_bytes, sizes.kept_bytes + sizes.log_bytes)
        return found

    def copy_out(self, folder: Path, start_us: int, end_us: int, *, keys: Collection[int] | None = None) -> int:
        """See SeriesStore."""
        return copying.copy_out(self._tables, self._overlay, folder, start_us, end_us, keys)

    def copy_in(self, folder: Path) -> int:
        """See SeriesStore."""
        return sum(piece.taken for piece in self.copy_in_pieces(folder))

    def copy_in_pieces(self, folder: Path, *, after: int = 0) -> Iterator[CopiedPiece]:
        """See SeriesStore."""
        pieces = copying.pieces_in(self._tables, self._state, self._intake, folder, after)
        while True:
            with self._maintaining:
                if self._closed:
                    raise StoreUnavailable(self._folder, OSError(errno.EBADF, "the store is closed"))
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """See SeriesReader."""
        with self._maintaining:
            if self._closed:
                return
            self._closed = True
            self._upkeep.close()
            self._tables.close()
            self._state.close()
