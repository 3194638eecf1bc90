"""What a running job is given: its parameters, how far it was, and where its result goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.domain.errors import BugError
from app.services.jobs.result_file import ResultFile
from app.stores.failpoints import FailPoint, FailPoints

# Each save is a durable write of the registry; steps between two saves are repeated after a crash.
SAVE_EACH_S = 0.5

# A registry that takes no progress is asked again after this; for work that must not go on without.
_SAVE_AGAIN_S = 1.0

# cursor, done, total, message; whether it is durable
Save = Callable[[Any, int, int | None, str], bool]


class JobCancelled(BaseException):
    """Somebody cancelled the job. No Exception, so that no kind takes it for a fault."""


class JobInterrupted(BaseException):
    """The hub stops; the job goes on at its next start."""


class JobContext:
    """For one run of one job, in its thread; `cancel` and `interrupt` come from others."""

    def __init__(
        self,
        job_id: str,
        owner: str,
        parameters: Mapping[str, Any],
        saved: Any,
        *,
        message: str = "",
        folder: Path,
        save: Save,
        stopping: threading.Event,
        failpoints: FailPoints | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job_id = job_id
        self.owner = owner
        self.parameters = parameters
        # What `step_done` was given last before a restart; None at first. Look after `result` was called.
        self.cursor: Any = None if saved is None else saved["at"]
        # What it said last.
        self.message = message
        self.file: ResultFile | None = None
        self._result_bytes = 0 if saved is None else int(saved["bytes"])
        self._folder = folder
        self._save = save
        self._stopping = stopping
        self._failpoints = failpoints or FailPoints()
        self._cancelled = threading.Event()
        self._cancellable = True
        self._monotonic_s = monotonic_s
        self._saved_at_s = monotonic_s()
        # done, total: what was told last, saved or not.
        self.progress: tuple[int, int | None] | None = None

    def cancel(self) -> None:
        """Have the job end after its present step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the job to end."""
        return self._cancelled.is_set()

    def no_return(self) -> None:
        """From now on a cancel comes too late: what was begun must come to its end."""
        self._cancellable = False

    def check(self) -> None:
        """Between steps. Raises JobCancelled, JobInterrupted."""
        if self._cancelled.is_set() and self._cancellable:
            raise JobCancelled
        if self._stopping.is_set():
            raise JobInterrupted

    def wait(self, seconds: float) -> None:
        """Let some time pass. Raises JobCancelled, JobInterrupted."""
        self._stopping.wait(seconds)
        self.check()

    def result(self, extension: str, *, spooled: bool = False) -> ResultFile:
        """The job's result file, as it was at the cursor. Call it first: a file that was lost resets the cursor.

        `spooled`: see ResultFile.
        """
        if self.file is not None:
            raise BugError("a job has one result file")
        self.file = ResultFile(self._folder, f"{self.job_id}.{extension}", spooled=spooled)
        if not self.file.open(self._result_bytes if self.cursor is not None else 0):
            self.cursor = None
        return self.file

    def step_done(self, cursor: Any, *, done: int, total: int | None, message: str = "", durably: bool = False) -> None:
        """A step is over: from `cursor` (any JSON but null) the next begins. Raises JobCancelled, JobInterrupted.

        `durably`: do not return before the registry has it, for a step whose successor can not be done without.
        """
        self._failpoints.passing(FailPoint.JOB_STEP)
        self.message = message
        now_s = self._monotonic_s()
        self.progress = (done, total)
        if durably or now_s - self._saved_at_s >= SAVE_EACH_S or self._stopping.is_set():
            self._saved_at_s = now_s
            length = 0
            if self.file is not None:
                # What the cursor says is written must not be lost with the machine's power.
                self.file.sync()
                length = self.file.length
            while not self._save({"at": cursor, "bytes": length}, done, total, message) and durably:
                if self._stopping.wait(_SAVE_AGAIN_S):
                    raise JobInterrupted
        self.check()
