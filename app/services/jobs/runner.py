"""Runs jobs: two at once, the others in their order; a hub that is killed goes on with them at its next start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.domain.errors import EnvironmentFault, WattdeckError
from app.domain.jobs import JobState
from app.domain.resolution import DAY_US
from app.services.jobs.context import JobCancelled, JobContext, JobInterrupted
from app.services.jobs.kinds import JobKinds
from app.services.jobs.result_file import PART
from app.stores.failpoints import FailPoints
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.jobs import JobRecord, JobTable

log = logging.getLogger(__name__)

# More would only share the same disk and processor; a third one waits, and says so.
AT_ONCE = 2
# A step lasts a second or so; what does not end by then is done anew at the next start.
STOP_S = 10.0
# What is told this once, in a file for who asked for it.
MOST_SECRET_DAYS = 1
# The outcome of a job is written again and again while the registry can not be.
_RETRY_S = 1.0


class JobRunner:
    """`run` and `stop` are for the loop, `wake` and `cancel` for any thread. `counts` are since the start."""

    def __init__(
        self,
        table: JobTable,
        kinds: JobKinds,
        folder: Path,
        *,
        now_us: Callable[[], int],
        result_days: Callable[[], int],
        at_once: int = AT_ONCE,
        failpoints: FailPoints | None = None,
    ) -> None:
        self.counts = {"done": 0, "failed": 0, "cancelled": 0, "unsaved": 0}
        self._table = table
        self._kinds = kinds
        self._folder = folder
        self._now_us = now_us
        self._result_days = result_days
        self._at_once = at_once
        self._failpoints = failpoints
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="job")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopping = threading.Event()
        self._contexts: dict[str, JobContext] = {}
        self._running: set[asyncio.Future[None]] = set()
        self._taken_up = False

    @property
    def kinds(self) -> JobKinds:
        """What it can run."""
        return self._kinds

    @property
    def running(self) -> int:
        """Jobs at work now."""
        return len(self._contexts)

    async def run(self) -> None:
        """Begin what waits, until cancelled. Raises RegistryFault; run again then."""
        self._loop = asyncio.get_running_loop()
        if not self._taken_up:
            count = await asyncio.to_thread(self._table.take_up)
            self._taken_up = True
            if count:
                log.info("%d jobs of the last run of this hub go on", count)
            await asyncio.to_thread(self._remove_strays)
        while not self._stopping.is_set():
            self._wake.clear()
            while len(self._running) < self._at_once:
                job = await asyncio.to_thread(self._table.begin_next)
                if job is None:
                    break
                self._begin(self._loop, job)
            await self._wake.wait()

    async def stop(self) -> None:
        """Interrupt what runs after its present step, and wait for that."""
        self._stopping.set()
        self._wake.set()
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_S)
        self._threads.shutdown(wait=False)

    def wake(self) -> None:
        """A job waits."""
        if self._loop is not None:
            # A loop that is closed has nobody to wake.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake.set)

    def cancel(self, job_id: str) -> None:
        """Have a job end after its present step, when it runs."""
        context = self._contexts.get(job_id)
        if context is not None:
            context.cancel()

    def _begin(self, loop: asyncio.AbstractEventLoop, job: JobRecord) -> None:
        context = JobContext(
            job.id,
            job.owner,
            job.parameters,
            job.cursor,
            message=job.message,
            folder=self._folder,
            save=lambda *progress: self._save(job.id, *progress),
            stopping=self._stopping,
            failpoints=self._failpoints,
        )
        if job.cancel_asked:
            context.cancel()
        self._contexts[job.id] = context
        work = loop.run_in_executor(self._threads, self._work, job, context)
        self._running.add(work)
        work.add_done_callback(lambda work: self._ended(job.id, work))

    def _ended(self, job_id: str, work: asyncio.Future[None]) -> None:
        self._contexts.pop(job_id, None)
        self._running.discard(work)
        self._wake.set()
        if not work.cancelled() and work.exception() is not None:
            log.error("job %s could not be brought to an end", job_id, exc_info=work.exception())

    def _work(self, job: JobRecord, context: JobContext) -> None:
        try:
            # Asked for while it was begun: the table has it, nobody had its context.
            if self._table.get(job.id).cancel_asked:
                context.cancel()
            kind = self._kinds.get(job.kind)
            if kind is not None and not kind.may_cancel(context.cursor):
                context.no_return()
            if kind is None or not kind.keeps_part:
                context.check()
            if kind is None:
                self._fail(job, context, f"this hub knows no jobs of the kind {job.kind}")
                return
            message = kind.run(context)
            if context.file is not None:
                context.file.finish()
        except JobInterrupted:
            self._close(context)
            self._until_done(lambda: self._table.put_back(job.id))
        except JobCancelled:
            self.counts["cancelled"] += 1
            self._end_early(job, context, JobState.CANCELLED, "")
        except (WattdeckError, OSError) as error:
            log.warning("job %s (%s) failed: %s", job.id, job.kind, error)
            sentence = error.text() if isinstance(error, WattdeckError) else f"the disk failed: {error.strerror}"
            self._fail(job, context, sentence)
        except Exception:
            log.exception("job %s (%s) failed by a fault of ours", job.id, job.kind)
            self._fail(job, context, "a fault of ours; the hub's log says more")
        else:
            self.counts["done"] += 1
            self._until_done(lambda: self._end(job, context, JobState.DONE, message))

    def _end(self, job: JobRecord, context: JobContext, state: JobState, message: str) -> None:
        kind = self._kinds.get(job.kind)
        result = None if context.file is None else context.file.name
        days = self._result_days()
        if kind is not None and kind.is_secret(job.parameters):
            days = min(days, MOST_SECRET_DAYS)
        expires_us = None if result is None else self._now_us() + days * DAY_US
        self._table.finish(job.id, state, message, progress=context.progress, result=result, expires_us=expires_us)

    def _fail(self, job: JobRecord, context: JobContext, sentence: str) -> None:
        self.counts["failed"] += 1
        self._end_early(job, context, JobState.FAILED, sentence)

    def _end_early(self, job: JobRecord, context: JobContext, state: JobState, sentence: str) -> None:
        """Cancelled or failed: what a job of a kind that keeps its part has done is told, of others nothing is left."""
        kind = self._kinds.get(job.kind)
        if kind is not None and kind.keeps_part and context.file is not None:
            try:
                context.file.finish()
            except OSError as error:
                log.warning("job %s: the file of what it did can not be kept: %s", job.id, error)
            else:
                told = "; ".join(part for part in (sentence, context.message) if part)
                self._until_done(lambda: self._end(job, context, state, told))
                return
        self._discard(context)
        self._until_done(lambda: self._table.finish(job.id, state, sentence, progress=context.progress))

    def _save(self, job_id: str, cursor: Any, done: int, total: int | None, message: str) -> bool:
        try:
            self._table.save(job_id, cursor, done=done, total=total, message=message)
        except WattdeckError as error:
            # The work is not hurt; more of it would be done anew after a crash.
            self.counts["unsaved"] += 1
            log.warning("progress of job %s could not be written: %s", job_id, error)
            return False
        return True

    def _until_done(self, write: Callable[[], None]) -> None:
        """Write an outcome, again while the registry fails. A hub that stops meanwhile does the rest anew."""
        while True:
            try:
                write()
            except EnvironmentFault as error:
                log.warning("the outcome of a job could not be written: %s", error)
                if self._stopping.wait(_RETRY_S):
                    return
            else:
                return

    def _close(self, context: JobContext) -> None:
        if context.file is not None:
            context.file.close()

    def _discard(self, context: JobContext) -> None:
        if context.file is None:
            return
        try:
            context.file.discard()
        except OSError as error:
            log.warning("job %s: its unfinished result can not be removed: %s", context.job_id, error)

    def _remove_strays(self) -> None:
        """At the start: files of jobs that ended, or that nobody knows (a crash between two writes)."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            try:
                job = self._table.get(path.name.partition(".")[0])
            except UnknownNameError:
                wanted = False
            else:
                wanted = not job.state.ended or job.result_file == path.name
            if not wanted:
                log.info("job file %s belongs to nothing and is removed", path.name.removesuffix(PART))
                path.unlink(missing_ok=True)
