"""Backups of a running hub: on a schedule and when asked for, one at a time, each a job.

The table of jobs is where their state stands; what else is known here stands in the folder of the backups.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import re
import threading
import zoneinfo
from collections.abc import Callable, Mapping

from app.domain.errors import WattdeckError
from app.domain.jobs import JobState
from app.domain.listing import Comparison, Condition, Listing, SortBy
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.domain.resolution import DAY_US, from_us, to_us
from app.protocol.api.backups import BackupState, BackupWork, Snapshot
from app.services.jobs.backup import BACKUP, VERIFY, BackupFacts, BackupPlan
from app.services.jobs.jobs import Jobs
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupDamaged, NotABackup
from app.stores.registry.actions import Deed
from app.stores.registry.faults import RefusedChangeError
from app.stores.registry.jobs import JobRecord

log = logging.getLogger(__name__)

SCHEDULE = "schedule"
# The clock may be set, and a laptop sleeps: what is due is asked this often.
_LOOK_EACH_S = 30.0
# After a failure: long enough not to wear a bad disk out, short enough that a backup is made the same night.
_AGAIN_S = 1800.0
_SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_WORDS = {BACKUP: "backup", VERIFY: "verify"}
_STATES = {JobState.QUEUED: "running", JobState.RUNNING: "running", JobState.DONE: "done"}
_ME = Principal(SCHEDULE, ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN)


class Backups:
    """`run` is a lasting task of the hub's loop, `statistics` for it too; the other methods block, from any thread."""

    def __init__(
        self,
        plan: Callable[[], BackupPlan],
        facts: BackupFacts,
        jobs: Jobs,
        *,
        now_us: Callable[[], int],
        note: Callable[[Deed], None],
    ) -> None:
        """`note` writes down who asked."""
        self._plan = plan
        self._facts = facts
        self._jobs = jobs
        self._now_us = now_us
        self._note = note
        self._began_us = now_us()
        self._starting = threading.Lock()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def statistics(self) -> Mapping[str, float]:
        """For the hub's statistics; -1 is the age of a backup that was never made."""
        facts, newest_us = self._facts, self._newest_us()
        age = -1.0 if newest_us is None else max(0.0, (self._now_us() - newest_us) / 1e6)
        return {
            "last_ok_age_s": round(age, 1),
            "last_seconds": round(facts.last_seconds, 1),
            "running": float(facts.running),
            "failing": float(facts.failing),
            "runs": facts.runs,
            "failures": facts.failures,
        }

    def plan_changed(self) -> None:
        """Look at once at what is due by the plan as it is now."""
        self._loop.call_soon_threadsafe(self._changed.set)

    def state(self) -> BackupState:
        """Reads the manifests. Raises nothing for a folder that is not there yet."""
        plan = self._plan()
        snapshots: list[Snapshot] = []
        damaged: list[str] = []
        if plan.directory is not None:
            directory = BackupDirectory(plan.directory)
            for name in reversed(directory.names()):
                try:
                    snapshots.append(_shape(directory, name))
                except (BackupDamaged, NotABackup):
                    damaged.append(name)
        running, last = self._newest_job(ended=False), self._newest_job(ended=True)
        due_us = self._due_us()
        return BackupState(
            directory=str(plan.directory or ""),
            at=plan.at,
            keep=plan.keep,
            next_us=None if due_us is None else max(due_us, self._now_us()),
            running=None if running is None else _work(running),
            last=None if last is None else _work(last),
            snapshots=snapshots,
            damaged=damaged,
        )

    def start_backup(self, by: Principal) -> BackupWork:
        """Begin one now. Raises OperatorInputError without a folder, RefusedChangeError while one is running."""
        work = self._start(by, BACKUP, {})
        self._note(Deed(by.name, "backup.start", "hub:backups"))
        return work

    def start_verification(self, by: Principal, snapshot: str) -> BackupWork:
        """Look through a snapshot; as `start_backup`, and UnknownNameError when there is none of this name."""
        work = self._start(by, VERIFY, {"snapshot": snapshot})
        self._note(Deed(by.name, "backup.verify", f"snapshot:{snapshot}"))
        return work

    async def run(self) -> None:
        """Begin what is due, when it is."""
        while True:
            self._changed.clear()
            await asyncio.to_thread(self._look)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_EACH_S)

    def _look(self) -> None:
        self._learn_of_the_newest()
        try:
            due_us = self._due_us()
            if due_us is not None and due_us <= self._now_us() and self._newest_job(ended=False) is None:
                self._start(_ME, BACKUP, {})
        except RefusedChangeError:
            # Somebody was faster; the next look sees what came of it.
            return
        except WattdeckError as error:
            log.error("a backup that is due can not be begun: %s", error)

    def _start(self, by: Principal, kind: str, parameters: Mapping[str, str]) -> BackupWork:
        with self._starting:
            prepared = self._jobs.prepare(by, kind, parameters)
            if self._newest_job(ended=False) is not None:
                raise RefusedChangeError("a backup or a verification is running; ask again when it is done")
            return _work(self._jobs.start(by, prepared))

    def _newest_job(self, *, ended: bool, kinds: tuple[str, ...] = (BACKUP, VERIFY)) -> JobRecord | None:
        states = tuple(state.value for state in JobState if state.ended is ended)
        conditions = (Condition("kind", Comparison.AMONG, kinds), Condition("state", Comparison.AMONG, states))
        order = (SortBy("finished_us" if ended else "created_us", descending=True),)
        found = self._jobs.found(_ME, Listing(limit=1, sort=order, conditions=conditions))
        return next(iter(found.rows), None)

    def _newest_us(self) -> int | None:
        newest = self._facts.newest
        return newest[1] if newest is not None and newest[0] == self._plan().directory else None

    def _learn_of_the_newest(self) -> None:
        folder = self._plan().directory
        if folder is None or self._newest_us() is not None:
            return
        directory = BackupDirectory(folder)
        try:
            manifests = directory.sound_manifests() if directory.snapshots.is_dir() else []
        except OSError as problem:
            log.error("the backups in %s can not be read: %s", folder, problem)
            return
        if manifests:
            self._facts.newest = (folder, max(manifest.taken_us for manifest in manifests))

    def _due_us(self) -> int | None:
        """When the next backup by schedule is to begin; it may be in the past. None: there is no schedule."""
        plan = self._plan()
        if not plan.at or plan.directory is None:
            return None
        since_us = self._newest_us()
        last = self._newest_job(ended=True, kinds=(BACKUP,))
        ended_us = None if last is None else last.finished_us
        if last is not None and last.state is JobState.CANCELLED and ended_us is not None:
            # Somebody did not want it now: at its next time again.
            since_us = max(ended_us, since_us or 0)
        # The first one at once: there is none yet.
        due_us = self._began_us if since_us is None else next_time(plan.at, plan.zone, since_us)
        if last is not None and last.state is JobState.FAILED and ended_us is not None:
            due_us = max(due_us, ended_us + int(_AGAIN_S * 1e6))
        return due_us


def _work(job: JobRecord) -> BackupWork:
    state = _STATES.get(job.state, "failed")
    message = {
        JobState.QUEUED: "waits until other jobs have ended",
        JobState.CANCELLED: "it was cancelled",
    }.get(job.state, job.message)
    named = job.parameters.get("snapshot")
    made = _SNAPSHOT.search(job.message) if job.state is JobState.DONE else None
    return BackupWork(
        kind=_WORDS[job.kind],
        state=state,
        message=message,
        started_us=job.started_us or job.created_us,
        finished_us=job.finished_us,
        snapshot=str(named) if named else (made[0] if made else None),
        asked_by=job.owner,
        job=job.id,
    )


def next_time(at: str, zone: str, after_us: int) -> int:
    """The first moment after a moment at which clocks in a zone show a time of day; UTC microseconds.

    A time that a change of clocks leaves out is taken as the moment of the change, one that comes twice as the first.
    """
    hour, minute = (int(part) for part in at.split(":"))
    tz = zoneinfo.ZoneInfo(zone)
    day = from_us(after_us).astimezone(tz).date()
    for step in range(3):
        there = dt.datetime.combine(day + dt.timedelta(days=step), dt.time(hour, minute), tzinfo=tz)
        moment = to_us(there.astimezone(dt.UTC))
        if moment > after_us:
            return moment
    return after_us + DAY_US


def _shape(directory: BackupDirectory, name: str) -> Snapshot:
    manifest = directory.manifest(name)
    verified = directory.verified(name)
    return Snapshot(
        name=name,
        taken_us=manifest.taken_us,
        finished_us=manifest.finished_us,
        program=manifest.program,
        files=len(manifest.files),
        size_bytes=manifest.size_bytes,
        added_bytes=manifest.added_bytes,
        verified_us=None if verified is None else verified.at_us,
        problems=[] if verified is None else verified.problems,
    )
