"""The data path on the hub's loop: typed readings in, bounded chunks for the journal out."""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from app.domain.keys import CollectionLevel
from app.domain.reading import Reading
from app.ingest.chunk import Chunk
from app.ingest.columns import Columns, aux_batch, gather, raw_batch, register_batch
from app.ingest.directory import NO_KEY, ModuleDirectory
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.ingest.register_marks import RegisterMarks
from app.ingest.stamping import TimeLimits, Verdict, stamp
from app.ingest.thinning import Thinning
from broker.engine import Batch

log = logging.getLogger(__name__)

# Rows turned into columns at once: enough that numpy's cost per call vanishes, few enough (1 to 2 ms) for the loop.
CHUNK_ROWS = 1024


@dataclasses.dataclass(slots=True)
class IngestCounters:
    """Since the start; `received` = kept + quarantined + unrouted + withheld, `kept` = committed + shed + waiting."""

    received: int = 0
    kept: int = 0
    quarantined: int = 0
    unrouted: int = 0
    withheld_by_consent: int = 0
    shed: int = 0


class _Gathering:
    """Readings of one class (guaranteed or not) that wait to become a chunk."""

    __slots__ = ("arrivals", "counts", "readings", "slots")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.slots: list[int] = []
        self.readings: list[Reading] = []
        self.arrivals: list[int] = []
        self.counts: list[int] = []


class Ingest:
    """Gathers readings into chunks, keeps live state, and bounds what waits for the journal.

    Overflow rule: above `buffer_rows` waiting readings the oldest QoS 0 chunks are shed and counted; guaranteed
    readings are never shed, their senders are held back instead (`hold_guaranteed`) from half of it on.
    All methods are called on the loop.
    """

    def __init__(
        self,
        directory: ModuleDirectory,
        live: LiveState,
        quarantine: Quarantine,
        *,
        limits: TimeLimits,
        time_zone: str,
        buffer_rows: int,
        observers: Sequence[Callable[[Columns, npt.NDArray[np.bool_]], None]] = (),
    ) -> None:
        self.counters = IngestCounters()
        self.hold_guaranteed: Callable[[bool], None] = lambda _hold: None
        self._directory = directory
        self._live = live
        self._quarantine = quarantine
        self._limits = limits
        self._thinning = Thinning(time_zone)
        self._marks = RegisterMarks()
        self._observers = observers
        self._buffer_rows = buffer_rows
        self._best_effort = _Gathering()
        self._guaranteed = _Gathering()
        self._chunks: collections.deque[Chunk] = collections.deque()
        self._waiting = 0
        self._waiting_guaranteed = 0
        self._in_flight = 0
        self._unacknowledged: list[Batch] = []
        self._held = False
        self._shedding = False

    def take(
        self, slots: Sequence[int], readings: Sequence[Reading], arrival_us: int, *, guaranteed: Batch | None = None
    ) -> None:
        """Take readings that arrived together. With `guaranteed`, that batch is acknowledged after their commit."""
        self.counters.received += len(readings)
        gathering = self._best_effort if guaranteed is None else self._guaranteed
        gathering.slots.extend(slots)
        gathering.readings.extend(readings)
        gathering.arrivals.append(arrival_us)
        gathering.counts.append(len(readings))
        if guaranteed is not None:
            self._unacknowledged.append(guaranteed)
        if len(gathering.readings) >= CHUNK_ROWS:
            self._close(gathering)

    def acknowledge_later(self, batch: Batch) -> None:
        """Acknowledge with the next commit a batch of which nothing is to be stored."""
        self._unacknowledged.append(batch)

    def drain(self) -> tuple[list[Chunk], list[Batch]]:
        """Everything that waits, for one commit; it counts as waiting until `committed`."""
        self._close(self._guaranteed)
        self._close(self._best_effort)
        chunks = list(self._chunks)
        self._chunks.clear()
        batches, self._unacknowledged = self._unacknowledged, []
        self._in_flight = self._waiting
        return chunks, batches

    def committed(self, chunks: Sequence[Chunk]) -> None:
        """These chunks are durable."""
        self._waiting -= sum(chunk.readings for chunk in chunks)
        self._waiting_guaranteed -= sum(chunk.readings for chunk in chunks if chunk.guaranteed)
        self._in_flight = 0
        if self._held and self._waiting_guaranteed < self._buffer_rows // 4:
            self._held = False
            self.hold_guaranteed(False)
        if self._shedding and self._waiting < self._buffer_rows // 2:
            self._shedding = False
            log.info("ingest has room again; %d readings were shed since the start", self.counters.shed)

    @property
    def waiting(self) -> int:
        """Readings taken and not yet durable."""
        return self._waiting + len(self._best_effort.readings) + len(self._guaranteed.readings)

    def _close(self, gathering: _Gathering) -> None:
        if not gathering.readings:
            return
        arrival = np.repeat(np.array(gathering.arrivals, np.int64), gathering.counts)
        columns = gather(gathering.slots, gathering.readings, arrival)
        guaranteed = gathering is self._guaranteed
        gathering.clear()
        chunk = self._chunk(columns, guaranteed)
        if chunk is None:
            return
        self._chunks.append(chunk)
        self._waiting += chunk.readings
        self.counters.kept += chunk.readings
        if guaranteed:
            self._waiting_guaranteed += chunk.readings
        self._bound()

    def _chunk(self, columns: Columns, guaranteed: bool) -> Chunk | None:
        verdict, origin = stamp(columns, self._limits)
        keys, levels = self._directory.route(columns.slots, columns.time_us)
        timely = verdict == Verdict.KEEP
        routed = keys != NO_KEY
        kept = timely & routed
        if not kept.all():
            self._refuse(columns, verdict, routed)
        full = levels == CollectionLevel.SECOND
        if not full.all():
            allowed = self._thinning.kept(columns.slots, columns.time_us, levels)
            self.counters.withheld_by_consent += int((kept & ~allowed).sum())
            kept &= allowed
            columns.withhold_instants(~full)
        self._live.update(columns, timely, full)
        for observe in self._observers:
            observe(columns, kept & full)
        count = int(kept.sum())
        if not count:
            return None
        whole = count == len(columns)
        tables = {"raw": raw_batch(columns, keys, origin, None if whole else np.flatnonzero(kept))}
        aux = aux_batch(columns, keys, origin, kept & full) if columns.aux else None
        if aux is not None:
            tables["aux"] = aux
        registers = register_batch(columns, keys, origin, self._marks.marked(columns, kept))
        if registers is not None:
            tables["registers"] = registers
        return Chunk(tables, count, guaranteed)

    def _refuse(self, columns: Columns, verdict: npt.NDArray[np.int8], routed: npt.NDArray[np.bool_]) -> None:
        for row in np.flatnonzero((verdict != Verdict.KEEP) | ~routed):
            late = verdict[row] != Verdict.KEEP
            if late:
                self.counters.quarantined += 1
                reason = "time_in_future" if verdict[row] == Verdict.FUTURE else "time_too_old"
            else:
                self.counters.unrouted += 1
                reason = "no_supply_period"
            self._quarantine.put(
                int(columns.arrival_us[row]),
                self._directory.serial(int(columns.slots[row])),
                "tele",
                reason,
                f"module time {int(columns.time_us[row]) / 1e6:.3f}",
                msgspec.json.encode(columns.readings[int(row)]),
            )

    def _bound(self) -> None:
        if not self._held and self._waiting_guaranteed > self._buffer_rows // 2:
            self._held = True
            self.hold_guaranteed(True)
        if self._waiting <= self._buffer_rows:
            return
        if not self._shedding:
            self._shedding = True
            log.error(
                "the journal does not keep up: %d readings wait, the oldest sent with QoS 0 are shed from now on",
                self._waiting,
            )
        spared = []
        while self._chunks and self._waiting > self._buffer_rows:
            oldest = self._chunks.popleft()
            if oldest.guaranteed:
                spared.append(oldest)
                continue
            self._waiting -= oldest.readings
            self.counters.shed += oldest.readings
        self._chunks.extendleft(reversed(spared))
