"""The data path on the hub's loop: typed readings in, bounded chunks for the journal out."""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from app.domain.keys import CollectionLevel
from app.domain.reading import Reading
from app.ingest.chunk import Chunk
from app.ingest.clock_watch import ClockWatch
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
# A fault of ours that comes with each chunk is told in full this often, and counted always.
_TELL_FAULT_EACH_S = 60.0

Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(slots=True)
class IngestCounters:
    """Since the start; `received` = kept + quarantined + unrouted + withheld, `kept` = committed + shed + waiting.

    `faults` counts chunks and observers that failed by a fault of ours; such a chunk's readings are quarantined.
    """

    received: int = 0
    kept: int = 0
    quarantined: int = 0
    unrouted: int = 0
    withheld_by_consent: int = 0
    shed: int = 0
    faults: int = 0


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
    readings are never shed, their senders are held back instead (`hold_guaranteed`) from half of it on. A message that
    waits for its acknowledgement counts like a reading, also when nothing of it is stored.
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
        clock: ClockWatch | None = None,
        observers: Sequence[Callable[[Columns, Bools], None]] = (),
    ) -> None:
        self.counters = IngestCounters()
        self.hold_guaranteed: Callable[[bool], None] = lambda _hold: None
        self._directory = directory
        self._live = live
        self._quarantine = quarantine
        self._limits = limits
        self._clock = clock or ClockWatch()
        self._thinning = Thinning(time_zone)
        self._marks = RegisterMarks()
        self._observers = observers
        self._buffer_rows = buffer_rows
        self._best_effort = _Gathering()
        self._guaranteed = _Gathering()
        self._chunks: collections.deque[Chunk] = collections.deque()
        self._waiting = 0
        self._waiting_guaranteed = 0
        self._unacknowledged: list[Batch] = []
        # Messages of batches that were not acknowledged yet, those of a commit in progress included.
        self._promised = 0
        self._held = False
        self._shedding = False
        self._fault_told_at = float("-inf")

    def set_limits(self, limits: TimeLimits) -> None:
        """How far module time may be from arrival, from the next readings on."""
        self._limits = limits

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
            self.acknowledge_later(guaranteed)
        if len(gathering.readings) >= CHUNK_ROWS:
            self._close(gathering)

    def judge(
        self, slot: int, readings: Sequence[Reading], arrival_us: int, now_us: int
    ) -> list[tuple[str, str] | None]:
        """What `take` would refuse of a module's readings that arrived at a time: reason and detail, or None.

        Takes nothing. Readings that are older by now than re-sent ones may be are too old, whenever they arrived.
        """
        columns = gather([slot] * len(readings), readings, np.full(len(readings), arrival_us, np.int64))
        limits = self._limits.widened(forwards_us=self._clock.forwards_us, back_us=self._clock.back_us)
        verdict, _origin = stamp(columns, limits)
        keys, _levels = self._directory.route(columns.slots, columns.time_us)
        too_old = (verdict == Verdict.TOO_OLD) | (now_us - columns.time_us > limits.resent_us)
        reasons = np.select(
            [verdict == Verdict.FUTURE, too_old, keys == NO_KEY],
            ["time_in_future", "time_too_old", "no_supply_period"],
            "",
        )
        return [
            (reason, _module_time(time_us)) if reason else None
            for reason, time_us in zip(reasons.tolist(), columns.time_us.tolist(), strict=True)
        ]

    def acknowledge_later(self, batch: Batch) -> None:
        """Acknowledge with the next commit a batch of which nothing more is to be stored."""
        self._unacknowledged.append(batch)
        self._promised += len(batch.payloads)
        self._hold_when_full()

    def drain(self) -> tuple[list[Chunk], list[Batch]]:
        """Everything that waits, for one commit; it counts as waiting until `committed` is told of it."""
        self._close(self._guaranteed)
        self._close(self._best_effort)
        chunks = list(self._chunks)
        self._chunks.clear()
        batches, self._unacknowledged = self._unacknowledged, []
        return chunks, batches

    def committed(self, chunks: Sequence[Chunk], batches: Sequence[Batch] = ()) -> None:
        """These chunks are durable, and these batches acknowledged."""
        self._waiting -= sum(chunk.readings for chunk in chunks)
        self._waiting_guaranteed -= sum(chunk.readings for chunk in chunks if chunk.guaranteed)
        self._promised -= sum(len(batch.payloads) for batch in batches)
        if self._held and max(self._waiting_guaranteed, self._promised) < self._buffer_rows // 4:
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
        slots, readings = gathering.slots, gathering.readings
        arrival_us = np.repeat(np.array(gathering.arrivals, np.int64), gathering.counts)
        guaranteed = gathering is self._guaranteed
        gathering.clear()
        before = dataclasses.replace(self.counters)
        try:
            chunk = self._chunk(gather(slots, readings, arrival_us), guaranteed)
        except Exception as error:  # noqa: BLE001 - one chunk must not take the others and the acknowledgements with it
            self._tell_fault(f"{len(readings)} readings could not be made into rows; they go to quarantine", error)
            self._quarantine_all(slots, readings, arrival_us, before)
            return
        if chunk is None:
            return
        self._chunks.append(chunk)
        self._waiting += chunk.readings
        self.counters.kept += chunk.readings
        if guaranteed:
            self._waiting_guaranteed += chunk.readings
        self._bound()

    def _chunk(self, columns: Columns, guaranteed: bool) -> Chunk | None:
        self._clock.look()
        limits = self._limits.widened(forwards_us=self._clock.forwards_us, back_us=self._clock.back_us)
        verdict, origin = stamp(columns, limits)
        keys, levels = self._directory.route(columns.slots, columns.time_us)
        timely = verdict == Verdict.KEEP
        routed = keys != NO_KEY
        kept = timely & routed
        if not kept.all():
            self._refuse(columns, verdict, routed)
        full = levels == CollectionLevel.SECOND
        if not full.all():
            allowed = self._thinning.kept(columns.slots, columns.time_us, levels, kept)
            self.counters.withheld_by_consent += int((kept & ~allowed).sum())
            kept = allowed
            columns.withhold_instants(~full)
        chunk = self._rows(columns, keys, origin, kept, full, guaranteed)
        self._show(columns, timely, full, kept & full)
        return chunk

    def _rows(
        self,
        columns: Columns,
        keys: npt.NDArray[np.int64],
        origin: npt.NDArray[np.int8],
        kept: Bools,
        full: Bools,
        guaranteed: bool,
    ) -> Chunk | None:
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

    def _show(self, columns: Columns, timely: Bools, full: Bools, observed: Bools) -> None:
        """Live state and observers; what fails there costs nothing that is to be stored."""
        try:
            self._live.update(columns, timely, full)
            for observe in self._observers:
                observe(columns, observed)
        except Exception as error:  # noqa: BLE001 - a view that fails must not stop ingest
            self._tell_fault("live state or an observer of readings failed; the readings are stored", error)

    def _refuse(self, columns: Columns, verdict: npt.NDArray[np.int8], routed: Bools) -> None:
        future, old = verdict == Verdict.FUTURE, verdict == Verdict.TOO_OLD
        unrouted = ~(future | old | routed)
        self.counters.quarantined += int(future.sum() + old.sum())
        self.counters.unrouted += int(unrouted.sum())
        for reason, refused in (("time_in_future", future), ("time_too_old", old), ("no_supply_period", unrouted)):
            rows = np.flatnonzero(refused).tolist()
            room = self._quarantine.room
            for row in rows[:room]:
                self._put_aside(
                    int(columns.slots[row]),
                    columns.readings[row],
                    int(columns.arrival_us[row]),
                    reason,
                    _module_time(int(columns.time_us[row])),
                )
            self._quarantine.count(reason, len(rows[room:]))

    def _quarantine_all(
        self,
        slots: Sequence[int],
        readings: Sequence[Reading],
        arrival_us: npt.NDArray[np.int64],
        before: IngestCounters,
    ) -> None:
        """What to do with a chunk that failed; its batches are acknowledged with the next commit all the same."""
        # Some of them may have been counted before it failed.
        self.counters.unrouted = before.unrouted
        self.counters.withheld_by_consent = before.withheld_by_consent
        self.counters.quarantined = before.quarantined + len(readings)
        room = self._quarantine.room
        for slot, reading, arrival in list(zip(slots, readings, arrival_us.tolist(), strict=True))[:room]:
            self._put_aside(slot, reading, arrival, "bug", "")
        self._quarantine.count("bug", len(readings[room:]))

    def _put_aside(self, slot: int, reading: Reading, arrival_us: int, reason: str, detail: str) -> None:
        self._quarantine.put(
            arrival_us, self._directory.serial(slot), "tele", reason, detail, msgspec.json.encode(reading)
        )

    def _tell_fault(self, what: str, error: Exception) -> None:
        self.counters.faults += 1
        if time.monotonic() - self._fault_told_at >= _TELL_FAULT_EACH_S:
            self._fault_told_at = time.monotonic()
            log.error("%s", what, exc_info=error)

    def _hold_when_full(self) -> None:
        if not self._held and max(self._waiting_guaranteed, self._promised) > self._buffer_rows // 2:
            self._held = True
            self.hold_guaranteed(True)

    def _bound(self) -> None:
        self._hold_when_full()
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


def _module_time(time_us: int) -> str:
    return f"module time {time_us / 1e6:.3f}"
