"""Having a worker process merge files, then committing what it wrote."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import uuid
from pathlib import Path

from app.stores.errors import CompactionFailed, TableConflict
from app.stores.failpoints import FailPoint
from app.stores.series.delta.jobs import CompactionResult, MergeConsumer, MergeJob
from app.stores.series.delta.plan import CompactionOptions, CompactionPlan, plan
from app.stores.series.delta.table import SeriesTable

__all__ = ["CompactionOptions", "CompactionPlan", "CompactionResult", "Compactor", "MergeConsumer", "MergeJob", "plan"]

# The tree's root, from which the worker imports.
_ROOT = Path(__file__).resolve().parents[4]


class Compactor:
    """Runs one merge at a time in a worker process of low priority; blocking, for a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(
        self, table: SeriesTable, planned: CompactionPlan, consumer: MergeConsumer | None = None
    ) -> CompactionResult:
        """Merges, then commits; raises CompactionFailed, TableConflict, TableUnavailable. Nothing is visible then."""
        job = job_of(table, planned, consumer)
        with table.lease() as files:
            live = {file.name for file in files}
            if any(file.name not in live for file in planned.inputs):
                raise TableConflict(f"{table.directory}: the files to merge have changed")
            try:
                result = self._merge(job)
            except CompactionFailed:
                table.discard_tagged(job.tag)
                if not self._cancelled:
                    # The next plan holds the same files: what can not be decoded must not stop it for ever.
                    table.mend(planned.inputs)
                raise
        table.replace(planned.inputs, result.added, point=FailPoint.COMPACTION)
        return result

    def cancel(self) -> None:
        """Kills the worker of a running merge, from any thread; `run` raises CompactionFailed."""
        with self._lock:
            if self._process is not None:
                self._cancelled = True
                self._process.kill()

    def _merge(self, job: MergeJob) -> CompactionResult:
        # Arrow's allocator gives memory back within milliseconds and takes it again: a tenth of a worker's time.
        environment = {"MIMALLOC_PURGE_DELAY": "-1", **os.environ, "PYTHONPATH": str(_ROOT)}
        with self._lock:
            self._cancelled = False
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "app.stores.series.delta.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                cwd=_ROOT,
            )
        try:
            result = _talk(process, pickle.dumps(job))
        finally:
            with self._lock:
                self._process = None
        return result


def job_of(table: SeriesTable, planned: CompactionPlan, consumer: MergeConsumer | None) -> MergeJob:
    return MergeJob(
        table.directory.resolve(),
        table.schema.serialize().to_pybytes(),
        planned,
        uuid.uuid4().hex[:8],
        table.options.extra_key,
        table.options.group_rows(planned.level),
        consumer,
    )


def _talk(process: subprocess.Popen[bytes], job: bytes) -> CompactionResult:
    """Sends the job, leaves the pipe open (its end tells the worker that the hub died), takes the answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            process.stdin.write(len(job).to_bytes(8, "little") + job)
            process.stdin.flush()
            answer = process.stdout.read()
        except OSError as problem:
            process.kill()
            # What was not written yet goes nowhere; the end of `with` would try it once more.
            with contextlib.suppress(OSError):
                process.stdin.close()
            raise CompactionFailed(f"the merging process can not be reached: {problem}") from problem
        process.stdin.close()
        status = process.wait()
    if status != 0 or not answer:
        raise CompactionFailed(f"the merging process ended with status {status}")
    result = pickle.loads(answer)  # noqa: S301 - from our own child, over its pipe
    if isinstance(result, CompactionResult):
        return result
    raise CompactionFailed(f"merging failed: {result}")
