"""Group commit: every 250 ms what has gathered is journaled and synced, then acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from app.ingest.chunk import Chunk, joined
from app.ingest.ingest import Ingest
from app.ingest.quarantine import Quarantine
from app.ingest.tail import Tail
from app.stores.errors import StoreUnavailable
from app.stores.journal.journal import Journal, Segment
from broker.engine import Batch

log = logging.getLogger(__name__)

T = TypeVar("T")

# After a failed commit: long enough not to hammer a full disk, short enough to be normal again within seconds.
RETRY_S = 0.5
# Acknowledging a commit of thousands of batches at once would hold the loop; other work runs in between.
_BATCHES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class CommitRules:
    """When to commit, when to seal a segment, and how much disk is left to others."""

    commit_s: float
    segment_s: float
    segment_bytes: int
    minimum_free_bytes: int


@dataclasses.dataclass(slots=True)
class CommitCounters:
    """Since the start."""

    commits: int = 0
    failures: int = 0
    committed: int = 0
    acknowledged_batches: int = 0
    acknowledge_faults: int = 0
    longest_commit_ms: int = 0


class DiskNearlyFull(StoreUnavailable):
    """Less is free than the setting ingest.minimum_free_mb leaves to the registry and the logs."""

    def __init__(self, path: Path, free_bytes: int, minimum_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.minimum_bytes = minimum_bytes
        needed = f"{minimum_bytes // 1_000_000} MB must stay free (ingest.minimum_free_mb)"
        super().__init__(path, OSError(f"only {free_bytes // 1_000_000} MB are free, {needed}; free some space"))


class Committer:
    """Drains ingest into the journal. A commit that fails is retried until it succeeds: nothing of it is
    acknowledged meanwhile, said once when it begins and once when it is over.

    Everything that touches the journal's writing side runs in one thread of its own. A fault of ours ends `run` with
    its exception: whoever runs it must not let the hub go on without it.
    """

    def __init__(
        self,
        journal: Journal,
        ingest: Ingest,
        quarantine: Quarantine,
        tail: Tail,
        rules: CommitRules,
        *,
        disk: Path,
        on_sealed: Callable[[list[Segment]], None],
    ) -> None:
        self.counters = CommitCounters()
        self.failing_since: float | None = None
        self._journal = journal
        self._ingest = ingest
        self._quarantine = quarantine
        self._tail = tail
        self._rules = rules
        self._disk = disk
        self._on_sealed = on_sealed
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._newest_sealed = max((segment.number for segment in journal.pending()), default=-1)
        self._sealed_at = time.monotonic()
        # False once rows were given up that the journal may write after all.
        self._tail_is_whole = True
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._cycle = asyncio.Condition()
        self._finished = 0
        self._ended = False

    def set_rules(self, rules: CommitRules) -> None:
        """Commit by other rules from the next commit on; any thread may call."""
        self._rules = rules

    async def run(self) -> None:
        """Commit at the set pace until `stop`, then once more; returns when everything taken is durable or given up."""
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                await self._commit()
                await self._tell_finished()
                await self._rest(self._rules.commit_s - (time.monotonic() - began))
            await self._commit()
            self._hand_over(await self._in_writer(lambda: self._seal_when_due(now=True)))
        finally:
            # Who waits in `flush` must not wait for commits that do not come.
            self._ended = True
            await self._tell_finished()
            await self._in_writer(self._close)
            self._writer.shutdown()

    async def flush(self) -> None:
        """Wait until everything taken so far has been committed, or could not be."""
        began = self._finished
        self._hurry.set()
        # The commit in progress may have begun before the last reading came: wait for the one after it.
        async with self._cycle:
            await self._cycle.wait_for(lambda: self._finished >= began + 2 or self._ended)

    def stop(self) -> None:
        """Let `run` make its last commit and seal the journal."""
        self._stopping.set()
        self._hurry.set()

    async def _commit(self) -> None:
        chunks, batches = self._ingest.drain()
        refused = self._quarantine.take_pending()
        if refused:
            await self._in_writer(lambda: self._quarantine.store(refused))
        if chunks and not await self._write_until_durable(chunks):
            return
        await self._acknowledge(batches)
        self._ingest.committed(chunks, batches)
        self.counters.committed += sum(chunk.readings for chunk in chunks)
        self._hand_over(await self._in_writer(self._seal_when_due))

    async def _acknowledge(self, batches: Sequence[Batch]) -> None:
        for number, batch in enumerate(batches, 1):
            try:
                batch.acknowledge()
            except Exception:
                # The others' senders still wait; this one's send again.
                log.exception("a batch could not be acknowledged")
                self.counters.acknowledge_faults += 1
            if number % _BATCHES_AT_ONCE == 0:
                await asyncio.sleep(0)
        self.counters.acknowledged_batches += len(batches)

    async def _write_until_durable(self, chunks: list[Chunk]) -> bool:
        """True once durable; False when we are stopping and it still fails."""
        tables = await self._in_writer(lambda: joined(chunks))
        # What the journal has not taken into its memory yet; of the rest only the sync is repeated.
        untaken = dict(tables)
        while True:
            began = time.monotonic()
            try:
                await self._in_writer(lambda: self._write(untaken))
            except StoreUnavailable as error:
                self._say_failing(error)
                await self._tell_finished()
                if self._stopping.is_set():
                    self._tail_is_whole = False
                    log.error(
                        "stopping while the journal can not be written: %d readings are not stored, none of them was "
                        "acknowledged",
                        sum(chunk.readings for chunk in chunks),
                    )
                    return False
                await self._rest(RETRY_S)
            else:
                break
        self._tail.add(tables)
        self.counters.commits += 1
        took_ms = int((time.monotonic() - began) * 1000)
        self.counters.longest_commit_ms = max(self.counters.longest_commit_ms, took_ms)
        if self.failing_since is not None:
            log.warning("the journal can be written again after %.0f s", time.monotonic() - self.failing_since)
            self.failing_since = None
        return True

    async def _rest(self, seconds: float) -> None:
        if self._stopping.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), max(0.001, seconds))
        self._hurry.clear()

    async def _tell_finished(self) -> None:
        self._finished += 1
        async with self._cycle:
            self._cycle.notify_all()

    def _write(self, untaken: dict[str, pa.RecordBatch]) -> None:
        try:
            free = shutil.disk_usage(self._disk).free
        except OSError as problem:
            raise StoreUnavailable(self._disk, problem) from problem
        if free < self._rules.minimum_free_bytes:
            raise DiskNearlyFull(self._disk, free, self._rules.minimum_free_bytes)
        for table in list(untaken):
            self._journal.append(table, untaken[table])
            del untaken[table]
        self._journal.sync()

    def _hand_over(self, sealed: list[Segment]) -> None:
        if sealed:
            self._on_sealed(sealed)

    def _seal_when_due(self, *, now: bool = False) -> list[Segment]:
        aged = time.monotonic() - self._sealed_at >= self._rules.segment_s
        if not (now or aged or self._journal.open_bytes >= self._rules.segment_bytes):
            return []
        self._sealed_at = time.monotonic()
        try:
            self._journal.seal()
        except StoreUnavailable as error:
            # Its rows are synced; only the change of file failed, and the next commit tries again.
            log.warning("the journal's segment could not be sealed: %s", error)
            return []
        fresh = [segment for segment in self._journal.pending() if segment.number > self._newest_sealed]
        if fresh:
            self._newest_sealed = fresh[-1].number
            self._tail.seal(fresh, whole=self._tail_is_whole)
        return fresh

    def _close(self) -> None:
        try:
            self._journal.close(seal=True)
        except (StoreUnavailable, OSError) as error:
            log.error("the journal could not be sealed: %s", error)

    def _say_failing(self, error: StoreUnavailable) -> None:
        self.counters.failures += 1
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.error("readings can not be made durable, acknowledgements are withheld until they can: %s", error)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)
