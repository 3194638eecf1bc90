"""The jobs that make a backup and look through one, each in a process of its own.

In a process: a registry of a fleet keeps the interpreter busy for seconds, and the hub's loop must not feel it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar

import msgspec

from app.domain.errors import EnvironmentFault, OperatorInputError
from app.domain.people import Scope
from app.services.jobs.context import JobContext
from app.services.jobs.kinds import JobKind, Parameters, as_parameters
from app.stores.backup.directory import SNAPSHOT_PATTERN, BackupDirectory
from app.stores.registry.faults import RefusedChangeError, UnknownNameError

log = logging.getLogger(__name__)

BACKUP, VERIFY = "backup", "verify_backup"
_LOOK_EACH_S = 0.2
# Less than the hub waits for its jobs at its end.
_STOP_S = 8.0
_LINES_KEPT = 20
# What the commands say while they work (app/hub/backup_progress.py).
_PROGRESS = re.compile(r".* ([0-9]+)(?: of ([0-9]+))? MB")
_MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class BackupPlan:
    """Where, when (HH:MM in the zone; empty: never by itself), how many stay."""

    directory: Path | None
    at: str
    keep: int
    zone: str

    def folder(self) -> Path:
        """Raises OperatorInputError when none is set."""
        if self.directory is None:
            raise OperatorInputError("no folder for backups is set; set backup.directory")
        return self.directory


class BackupFacts:
    """What is known of backups without asking a disk; the jobs write it, the statistics read it."""

    def __init__(self) -> None:
        # Ended since the start, whatever their end; and those that failed.
        self.runs = 0
        self.failures = 0
        self.running = False
        self.failing = False
        self.last_seconds = 0.0
        # When the newest good backup in a folder began.
        self.newest: tuple[Path, int] | None = None


class BackupWorkFailed(EnvironmentFault):
    """A backup, or looking through one, failed; the sentence is its process's."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Ended:
    code: int
    answer: Mapping[str, Any]
    said: str

    def problem(self) -> str:
        """Why it failed, for people."""
        problems = self.answer.get("problems")
        found = problems.values() if isinstance(problems, dict) else ()
        first = next((str(one[0]) for one in found if isinstance(one, list) and one), "")
        return first or self.said or f"exit code {self.code}"


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verification's: the name of a snapshot."""

    snapshot: Annotated[str, msgspec.Meta(pattern=SNAPSHOT_PATTERN, max_length=40)]


class _AskedNothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A backup's: nothing."""


class BackupProcess:
    """Starts commands of ours, one at a time, and follows them."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """`command`: the words that begin a command of ours in a new process."""
        self._command = list(command)
        self._environment = dict(environment)
        self._busy = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether one runs."""
        return self._busy.locked()

    def run(self, words: Sequence[str], context: JobContext) -> _Ended:
        """Until its end. Raises RefusedChangeError, OSError, and JobCancelled or JobInterrupted when it has ended."""
        if not self._busy.acquire(blocking=False):
            raise RefusedChangeError("a backup or a verification is running; ask again when it is done")
        try:
            return self._followed([*self._command, *words, "--background", "--json"], context)
        finally:
            self._busy.release()

    def _followed(self, words: Sequence[str], context: JobContext) -> _Ended:
        with _ended_process(words, self._environment) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            answers: list[bytes] = []
            lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
            readers = [
                threading.Thread(target=_read_all, args=(process.stdout, answers), daemon=True),
                threading.Thread(target=_read_lines, args=(process.stderr, lines), daemon=True),
            ]
            for reader in readers:
                reader.start()
            last: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
            while True:
                context.check()
                try:
                    line = lines.get(timeout=_LOOK_EACH_S)
                except queue.Empty:
                    continue
                if line is None:
                    break
                last.append(line)
                _tell(context, line)
            code = process.wait()
            readers[0].join()
        try:
            answer = json.loads(b"".join(answers))
        except ValueError:
            answer = {}
        said = " ".join(line.removeprefix("wattdeck: ") for line in last if line.startswith("wattdeck: "))
        return _Ended(code, answer if isinstance(answer, dict) else {}, said or (last[-1] if last else ""))


class _ProcessKind(JobKind):
    """What both have in common. A run after an interruption begins anew: what was copied before is found again."""

    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.BACKUPS})

    def __init__(self, plan: Callable[[], BackupPlan], process: BackupProcess, facts: BackupFacts) -> None:
        self._plan = plan
        self._process = process
        self._facts = facts

    def _check(self) -> Path:
        folder = self._plan().folder()
        if self._process.is_busy:
            raise RefusedChangeError("a backup or a verification is running; ask again when it is done")
        return folder

    def _done(self, words: Sequence[str], context: JobContext) -> Mapping[str, Any]:
        """What the command answers. Raises BackupWorkFailed beside what `BackupProcess.run` does."""
        facts = self._facts
        facts.running = True
        try:
            try:
                ended = self._process.run(words, context)
            except OSError as problem:
                facts.runs += 1
                facts.failures += 1
                raise BackupWorkFailed(f"its process could not be started: {problem.strerror}") from problem
            facts.runs += 1
            if ended.code != 0:
                facts.failures += 1
                raise BackupWorkFailed(ended.problem())
            return ended.answer
        finally:
            facts.running = False


class MakeBackup(_ProcessKind):
    """One more snapshot in the folder of the settings."""

    name: ClassVar[str] = BACKUP

    def __init__(
        self,
        plan: Callable[[], BackupPlan],
        process: BackupProcess,
        facts: BackupFacts,
        data: Path,
        now_us: Callable[[], int],
    ) -> None:
        super().__init__(plan, process, facts)
        self._data = data
        self._now_us = now_us

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind. Raises RefusedChangeError while a backup or a verification runs."""
        as_parameters(parameters, _AskedNothing)
        self._check()
        return {}

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        plan, began_us, began_s = self._plan(), self._now_us(), time.monotonic()
        folder = plan.folder()
        try:
            answer = self._done(["backup", str(folder), "--data", str(self._data), "--keep", str(plan.keep)], context)
        except BackupWorkFailed as failure:
            self._facts.failing = True
            log.error("the backup failed: %s", failure)
            raise
        self._facts.failing = False
        self._facts.last_seconds = time.monotonic() - began_s
        # Its age counts from the moment that it shows.
        self._facts.newest = (folder, began_us)
        log.info("backup of %s done (%.1f s)", answer.get("snapshot"), self._facts.last_seconds)
        return f"backup of {answer.get('snapshot')} done"


class VerifyBackup(_ProcessKind):
    """Looks through a snapshot, every byte."""

    name: ClassVar[str] = VERIFY

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind. Raises UnknownNameError for a snapshot that is not there; as MakeBackup."""
        asked: _Asked = as_parameters(parameters, _Asked)
        if asked.snapshot not in BackupDirectory(self._plan().folder()).names():
            raise UnknownNameError("snapshot", asked.snapshot)
        self._check()
        return {"snapshot": asked.snapshot}

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        snapshot = str(context.parameters["snapshot"])
        try:
            self._done(["verify-backup", str(self._plan().folder()), "--snapshot", snapshot], context)
        except BackupWorkFailed as failure:
            log.error("the verification of a backup failed: %s", failure)
            raise
        return f"verify of {snapshot} done"


@contextlib.contextmanager
def _ended_process(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ended when the block has: an interrupted backup leaves the earlier ones whole."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tell(context: JobContext, line: str) -> None:
    found = _PROGRESS.fullmatch(line)
    done = int(found[1]) * _MEGABYTE if found else 0
    total = int(found[2]) * _MEGABYTE if found and found[2] else None
    context.step_done({}, done=done, total=total, message=line)


def _read_all(stream: IO[bytes], into: list[bytes]) -> None:
    with stream:
        into.append(stream.read())


def _read_lines(stream: IO[bytes], into: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            into.put(line.decode(errors="replace").strip())
    into.put(None)
