"""What people do with jobs: start, look, cancel, fetch and remove results; and what time does with them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

from app.domain.errors import NotAllowed, OperatorInputError
from app.domain.ids import new_id
from app.domain.listing import Found, Listing
from app.domain.people import Principal, Role, Scope
from app.domain.resolution import DAY_US
from app.services.jobs.kinds import JobKind, Parameters
from app.services.jobs.runner import JobRunner
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.jobs import JobRecord, JobTable

log = logging.getLogger(__name__)

# Somebody who starts more has made a mistake, or a loop.
MOST_WAITING = 50
# Rows or files that one step of tidying removes.
_AT_ONCE = 200


class NoResult(UnknownNameError):
    """A job has no result, not yet or no longer."""

    def __init__(self, job: JobRecord) -> None:
        super().__init__("result of job", job.id)
        if job.result_expires_us is not None:
            self.args = (f"the result of job {job.id} was removed or its time is over; start the job again",)
        elif not job.state.ended:
            self.args = (f"job {job.id} has no result yet: it is {job.state}",)


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A job that may be started: checked, and whom it concerns."""

    kind: JobKind
    parameters: Parameters
    subjects: Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A result that may be sent, and what it shows of whom."""

    path: Path
    job: JobRecord
    subjects: Sequence[str]
    attributes: Sequence[str]

    def open(self) -> FileIO:
        """The file. Raises NoResult when it is gone."""
        try:
            return FileIO(self.path)
        except FileNotFoundError:
            raise NoResult(self.job) from None


class Jobs:
    """Every method blocks. Whose a job is, and administrators, see it; for others there is no such job."""

    def __init__(
        self,
        table: JobTable,
        runner: JobRunner,
        folder: Path,
        *,
        now_us: Callable[[], int],
        keep_days: Callable[[], int],
    ) -> None:
        self._table = table
        self._runner = runner
        self._folder = folder
        self._now_us = now_us
        self._keep_days = keep_days

    def prepare(self, principal: Principal, kind: str, parameters: Parameters) -> Prepared:
        """Check what somebody wants. Raises OperatorInputError, NotAllowed."""
        found = self._runner.kinds.get(kind)
        if found is None:
            raise OperatorInputError(f"there is no kind of job {kind[:40]!r}; kinds: {', '.join(self._runner.kinds)}")
        _check_rights(principal, found.scopes)
        definite = found.prepare(parameters)
        _check_rights(principal, found.scopes_for(definite))
        return Prepared(found, definite, found.subjects(definite))

    def start(self, principal: Principal, prepared: Prepared) -> JobRecord:
        """Have it done when its turn comes. Raises RefusedChangeError."""
        job = self._table.add(
            new_id(self._now_us()),
            prepared.kind.name,
            prepared.parameters,
            owner=principal.name,
            most_waiting=MOST_WAITING,
        )
        self._runner.wake()
        return job

    def get(self, principal: Principal, job_id: str) -> JobRecord:
        """One job. Raises UnknownNameError."""
        job = self._table.get(job_id)
        if not (_sees_all(principal) or job.owner == principal.name):
            raise UnknownNameError("job", job_id)
        return job

    def found(self, principal: Principal, listing: Listing) -> Found[JobRecord]:
        """Some of the jobs that somebody may see."""
        return self._table.found(listing, owner=None if _sees_all(principal) else principal.name)

    def cancel(self, principal: Principal, job_id: str) -> JobRecord:
        """End a job after its present step. Raises UnknownNameError, RefusedChangeError when it has ended."""
        self.get(principal, job_id)
        job = self._table.ask_cancel(job_id, principal.name)
        self._runner.cancel(job_id)
        return job

    def result(self, principal: Principal, job_id: str) -> Result:
        """The file of a job that is done. Raises UnknownNameError, NotAllowed."""
        job = self.get(principal, job_id)
        kind = self._runner.kinds.get(job.kind)
        if kind is not None:
            _check_rights(principal, kind.scopes_for(job.parameters))
            if kind.is_secret(job.parameters) and job.owner != principal.name:
                raise NotAllowed(f"the secrets in this result are told to {job.owner} alone")
        expired = job.result_expires_us is not None and job.result_expires_us <= self._now_us()
        # A kind of another version of this program: whom it concerned is not known, so nobody may have it.
        if job.result_file is None or expired or kind is None:
            raise NoResult(job)
        if kind.is_secret(job.parameters):
            self._table.note_secrets_told(job_id, principal.name)
        return Result(self._folder / job.result_file, job, kind.subjects(job.parameters), kind.personal)

    def remove_result(self, principal: Principal, job_id: str) -> None:
        """Remove the file of a job. Raises UnknownNameError."""
        job = self.get(principal, job_id)
        if job.result_file is None:
            raise NoResult(job)
        self._remove_file(job)
        self._table.drop_result(job_id, principal.name)

    def forget_subject(self, text: str) -> int:
        """Remove the results and rows of ended jobs that name somebody or something; how many there were."""
        jobs = [job for job in self._table.with_text(text) if job.state.ended]
        for job in jobs:
            self._remove_file(job)
        return self._table.remove([job.id for job in jobs])

    def naming(self, text: str) -> list[tuple[JobRecord, int]]:
        """The jobs that name somebody or something, with the bytes of their files."""
        return [(job, self.size_of(job)) for job in self._table.with_text(text)]

    def size_of(self, job: JobRecord) -> int:
        """Bytes of a job's result, 0 without one."""
        try:
            return (self._folder / job.result_file).stat().st_size if job.result_file else 0
        except OSError:
            return 0

    def shown(self, job: JobRecord) -> Parameters:
        """What is told of a job's parameters."""
        kind = self._runner.kinds.get(job.kind)
        return {} if kind is None else kind.shown(job.parameters)

    def tidy(self) -> bool:
        """One bounded step: remove results whose time is over, then old rows; whether there may be more."""
        expired = self._table.expired(_AT_ONCE)
        for job in expired:
            self._remove_file(job)
            self._table.drop_result(job.id, None)
        if len(expired) == _AT_ONCE:
            return True
        return self._table.prune(self._now_us() - self._keep_days() * DAY_US, _AT_ONCE) == _AT_ONCE

    def _remove_file(self, job: JobRecord) -> None:
        if job.result_file is not None:
            # The name is ours; a row that was tampered with shall not lead out of the folder all the same.
            (self._folder / Path(job.result_file).name).unlink(missing_ok=True)


def _sees_all(principal: Principal) -> bool:
    return principal.role is Role.ADMIN


def _check_rights(principal: Principal, scopes: frozenset[Scope]) -> None:
    missing = sorted(scope for scope in scopes if not principal.may(scope))
    if missing:
        raise NotAllowed(f"this kind of job needs the right {', '.join(missing)}, which you do not have")
