"""Backups of a running hub: on a schedule and when asked for, one at a time, each in a process of its own.

In a process: a registry of a fleet keeps the interpreter busy for seconds, and the hub's loop must not feel it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime as dt
import json
import logging
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from app.domain.errors import OperatorInputError
from app.domain.resolution import from_us, to_us
from app.protocol.api.backups import BackupState, BackupWork, Snapshot
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupDamaged, NotABackup
from app.stores.registry.actions import Deed
from app.stores.registry.faults import RefusedChangeError, UnknownNameError

log = logging.getLogger(__name__)

SCHEDULE = "schedule"
BACKUP, VERIFY = "backup", "verify"
# The clock may be set, and a laptop sleeps: what is due is asked this often.
_LOOK_EACH_S = 30.0
# After a failure: long enough not to wear a bad disk out, short enough that a backup is made the same night.
_AGAIN_S = 1800.0
_LINES_KEPT = 20
_STOP_S = 10.0
_DAY_US = 86_400_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class BackupPlan:
    """Where, when (HH:MM in the zone; empty: never by itself), how many stay."""

    directory: Path | None
    at: str
    keep: int
    zone: str


@dataclasses.dataclass(slots=True)
class BackupCounters:
    """Since the start."""

    runs: int = 0
    failures: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    kind: str
    asked_by: str
    snapshot: str | None = None


class Backups:
    """`start_*` and `state` from any thread; `run` is a lasting task of the hub's loop."""

    def __init__(
        self,
        plan: BackupPlan,
        command: Sequence[str],
        environment: Mapping[str, str],
        data: Path,
        *,
        now_us: Callable[[], int],
        note: Callable[[Deed], None],
    ) -> None:
        """`command`: the words that begin a command of ours in a new process. `note` writes down who asked."""
        self.counters = BackupCounters()
        self._plan = plan
        self._command = list(command)
        self._environment = dict(environment)
        self._data = data
        self._now_us = now_us
        self._note = note
        self._began_us = now_us()
        self._wanted: _Wanted | None = None
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: BackupWork | None = None
        self._last: BackupWork | None = None
        self._last_ok_us: int | None = None
        self._last_seconds = 0.0
        self._failed_us: int | None = None

    def statistics(self) -> dict[str, float]:
        """For the hub's statistics; -1 is the age of a backup that was never made."""
        age = -1.0 if self._last_ok_us is None else max(0.0, (self._now_us() - self._last_ok_us) / 1e6)
        return {
            "last_ok_age_s": round(age, 1),
            "last_seconds": round(self._last_seconds, 1),
            "running": float(self._running is not None),
            "failing": float(self._failed_us is not None),
            **dataclasses.asdict(self.counters),
        }

    def state(self) -> BackupState:
        """Reads the manifests: blocks. Raises nothing for a folder that is not there yet."""
        plan = self._plan
        snapshots: list[Snapshot] = []
        damaged: list[str] = []
        if plan.directory is not None:
            directory = BackupDirectory(plan.directory)
            for name in reversed(directory.names()):
                try:
                    snapshots.append(_shape(directory, name))
                except (BackupDamaged, NotABackup):
                    damaged.append(name)
        return BackupState(
            directory=str(plan.directory or ""),
            at=plan.at,
            keep=plan.keep,
            next_us=self._next_us(),
            running=self._running,
            last=self._last,
            snapshots=snapshots,
            damaged=damaged,
        )

    def start_backup(self, asked_by: str) -> BackupWork:
        """Begin one now. Raises OperatorInputError without a folder, RefusedChangeError while one is running."""
        return self._start(_Wanted(BACKUP, asked_by))

    def start_verification(self, asked_by: str, snapshot: str) -> BackupWork:
        """Look through a snapshot; as `start_backup`, and UnknownNameError when there is none of this name."""
        if self._plan.directory is not None:
            directory = BackupDirectory(self._plan.directory)
            if snapshot not in directory.names():
                raise UnknownNameError("snapshot", snapshot)
        return self._start(_Wanted(VERIFY, asked_by, snapshot))

    async def run(self) -> None:
        """Make what is due and what is asked for."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._learn_of_the_newest()
            while True:
                wanted = await self._next()
                await self._do(wanted)
        finally:
            self._loop = self._running = self._wanted = None

    def _start(self, wanted: _Wanted) -> BackupWork:
        if self._plan.directory is None:
            raise OperatorInputError("no folder for backups is set; set backup.directory and start the hub again")
        loop = self._loop
        if loop is None:
            raise RefusedChangeError("the hub is stopping")
        work = BackupWork(
            kind=wanted.kind,
            state="running",
            message="",
            started_us=self._now_us(),
            asked_by=wanted.asked_by,
            snapshot=wanted.snapshot,
        )
        taken: bool = asyncio.run_coroutine_threadsafe(self._take(wanted, work), loop).result(10)
        if not taken:
            raise RefusedChangeError("a backup or a verification is running; ask again when it is done")
        about = f"snapshot:{wanted.snapshot}" if wanted.snapshot else "hub:backups"
        self._note(Deed(wanted.asked_by, "backup.verify" if wanted.kind == VERIFY else "backup.start", about))
        return work

    async def _take(self, wanted: _Wanted, work: BackupWork) -> bool:
        if self._running is not None:
            return False
        self._running, self._wanted = work, wanted
        self._asked.set()
        return True

    async def _next(self) -> _Wanted:
        while True:
            wanted, self._wanted = self._wanted, None
            self._asked.clear()
            if wanted is not None:
                return wanted
            due_us = self._due_us()
            if due_us is not None and due_us <= self._now_us():
                return _Wanted(BACKUP, SCHEDULE)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _LOOK_EACH_S)

    async def _do(self, wanted: _Wanted) -> None:
        began_us = self._now_us()
        self._running = self._running or BackupWork(
            kind=wanted.kind, state="running", message="", started_us=began_us, asked_by=wanted.asked_by
        )
        words = [*self._command]
        if wanted.kind == BACKUP:
            words += ["backup", str(self._plan.directory), "--data", str(self._data), "--keep", str(self._plan.keep)]
            words += ["--background"]
        else:
            words += ["verify-backup", str(self._plan.directory), "--snapshot", str(wanted.snapshot)]
            words += ["--background"]
        try:
            code, answer, said = await self._child([*words, "--json"])
        except OSError as problem:
            code, answer, said = -1, {}, f"its process could not be started: {problem.strerror}"
        finished_us = self._now_us()
        self._finish(wanted, began_us, finished_us, code, answer, said)

    def _finish(
        self, wanted: _Wanted, began_us: int, finished_us: int, code: int, answer: Mapping[str, object], said: str
    ) -> None:
        done = code == 0
        snapshot = str(answer["snapshot"]) if "snapshot" in answer else wanted.snapshot
        message = (
            f"{wanted.kind} of {snapshot} done" if done else (_first_problem(answer) or said or f"exit code {code}")
        )
        assert self._running is not None
        self._last = msgspec.structs.replace(
            self._running,
            state="done" if done else "failed",
            message=message[:500],
            finished_us=finished_us,
            snapshot=snapshot,
        )
        self._running = None
        self.counters.runs += 1
        if wanted.kind == BACKUP:
            self._failed_us = None if done else finished_us
            if done:
                # Its age counts from the moment that it shows.
                self._last_ok_us, self._last_seconds = began_us, (finished_us - began_us) / 1e6
        if done:
            log.info("%s (%.1f s)", message, (finished_us - began_us) / 1e6)
        else:
            self.counters.failures += 1
            log.error("the %s failed: %s", "backup" if wanted.kind == BACKUP else "verification of a backup", message)

    async def _child(self, words: Sequence[str]) -> tuple[int, Mapping[str, object], str]:
        process = await asyncio.create_subprocess_exec(
            *words,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        lines: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        try:
            answer, _ = await asyncio.gather(process.stdout.read(), self._follow(process.stderr, lines))
            code = await process.wait()
        finally:
            if process.returncode is None:
                # The hub stops: an interrupted backup leaves the earlier ones whole.
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _STOP_S)
        try:
            found = json.loads(answer)
        except ValueError:
            found = {}
        said = " ".join(line.removeprefix("wattdeck: ") for line in lines if line.startswith("wattdeck: "))
        return code, found if isinstance(found, dict) else {}, said or (lines[-1] if lines else "")

    async def _follow(self, stream: asyncio.StreamReader, lines: collections.deque[str]) -> None:
        while line := await stream.readline():
            text = line.decode(errors="replace").strip()
            lines.append(text)
            if self._running is not None:
                self._running = msgspec.structs.replace(self._running, message=text[:500])

    async def _learn_of_the_newest(self) -> None:
        if self._plan.directory is None or self._last_ok_us is not None:
            return
        directory = BackupDirectory(self._plan.directory)

        def newest() -> int | None:
            manifests = directory.sound_manifests() if directory.snapshots.is_dir() else []
            return max((manifest.taken_us for manifest in manifests), default=None)

        try:
            self._last_ok_us = await asyncio.to_thread(newest)
        except OSError as problem:
            log.error("the backups in %s can not be read: %s", self._plan.directory, problem)

    def _due_us(self) -> int | None:
        """When the next backup by schedule is to begin; it may be in the past. None: there is no schedule."""
        if not self._plan.at or self._plan.directory is None:
            return None
        since_us = self._last_ok_us
        # The first one at once: there is none yet.
        due_us = self._began_us if since_us is None else next_time(self._plan.at, self._plan.zone, since_us)
        if self._failed_us is not None:
            due_us = max(due_us, self._failed_us + int(_AGAIN_S * 1e6))
        return due_us

    def _next_us(self) -> int | None:
        due_us = self._due_us()
        return None if due_us is None else max(due_us, self._now_us())


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
    return after_us + _DAY_US


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


def _first_problem(answer: Mapping[str, object]) -> str:
    problems = answer.get("problems")
    if not isinstance(problems, dict):
        return ""
    return next((str(found[0]) for found in problems.values() if isinstance(found, list) and found), "")
