"""Jobs in the database: what is to be done, how far it is, and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping

from app.domain.errors import BugError
from app.domain.jobs import JobState, states_before
from app.domain.listing import Column, Found, Listing
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.models import Job, table
from app.stores.registry.registry import Registry
from app.stores.registry.select_page import select_page

Parameters = Mapping[str, Any]

# What a list of jobs may be ordered by and filtered on.
JOB_COLUMNS: Mapping[str, Column] = {
    "id": Column(str),
    "kind": Column(str),
    "owner": Column(str),
    "state": Column(str),
    "created_us": Column(int),
    "finished_us": Column(int),
}
_COLUMNS = {name: table(Job).c[name] for name in JOB_COLUMNS}
_LONGEST_MESSAGE = 500
_ENDED = [state.value for state in JobState if state.ended]


@dataclasses.dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands. Times are UTC microseconds; `cursor` is its kind's own."""

    id: str
    kind: str
    owner: str
    state: JobState
    parameters: Parameters
    cursor: Any
    done: int
    total: int | None
    message: str
    cancel_asked: bool
    created_us: int
    started_us: int | None
    finished_us: int | None
    result_file: str | None
    result_expires_us: int | None


class JobTable:
    """Every method blocks; see Registry for what each may raise beside what it names."""

    def __init__(self, registry: Registry, now_us: Callable[[], int]) -> None:
        self._registry = registry
        self._now_us = now_us

    def add(self, job_id: str, kind: str, parameters: Parameters, *, owner: str, most_waiting: int) -> JobRecord:
        """A new job that waits. Raises RefusedChangeError when its owner has too many that did not end."""
        now_us = self._now_us()
        with self._registry.writing() as connection:
            waiting = sa.select(sa.func.count()).where(Job.owner == owner, Job.state.not_in(_ENDED))
            if connection.execute(waiting).scalar_one() >= most_waiting:
                raise RefusedChangeError(f"{most_waiting} jobs of yours wait or run; let some end, or cancel them")
            connection.execute(
                sa.insert(table(Job)).values(
                    id=job_id,
                    kind=kind,
                    owner=owner,
                    state=JobState.QUEUED.value,
                    parameters=_json(parameters),
                    cancel_asked=False,
                    created_us=now_us,
                )
            )
            record(connection, Deed(owner, "job.start", f"job:{job_id}", None, {"kind": kind}), now_us)
            return _one(connection, job_id)

    def get(self, job_id: str) -> JobRecord:
        """One job. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return _one(connection, job_id)

    def found(self, listing: Listing, *, owner: str | None) -> Found[JobRecord]:
        """Some jobs, of one owner or of all; the newest first where nothing else is said."""
        query = sa.select(table(Job))
        if owner is not None:
            query = query.where(Job.owner == owner)
        with self._registry.reading() as connection:
            found = select_page(connection, query, _COLUMNS, listing, last=table(Job).c.id.desc())
        return Found([_record(row._mapping) for row in found.rows], found.total, found.offset, found.limit)  # noqa: SLF001 - SQLAlchemy's public name

    def take_up(self) -> int:
        """At a start: what ran when the last hub ended waits again; how many."""
        with self._registry.writing() as connection:
            changed = connection.execute(
                sa.update(Job).where(Job.state == JobState.RUNNING.value).values(state=JobState.QUEUED.value)
            )
        return changed.rowcount

    def begin_next(self) -> JobRecord | None:
        """The job that has waited longest, running now; None when none waits."""
        with self._registry.writing() as connection:
            waiting = sa.select(Job.id).where(Job.state == JobState.QUEUED.value).order_by(Job.created_us, Job.id)
            job_id = connection.execute(waiting.limit(1)).scalar()
            if job_id is None:
                return None
            started = sa.func.coalesce(Job.started_us, self._now_us())
            _change(connection, job_id, JobState.RUNNING, {"started_us": started})
            return _one(connection, job_id)

    def save(self, job_id: str, cursor: Any, *, done: int, total: int | None, message: str) -> None:
        """Remember how far a running job is."""
        with self._registry.writing() as connection:
            connection.execute(
                sa.update(Job)
                .where(Job.id == job_id, Job.state == JobState.RUNNING.value)
                .values(cursor=_json(cursor), done=done, total=total, message=message[:_LONGEST_MESSAGE])
            )

    def put_back(self, job_id: str) -> None:
        """The hub stops: the job waits for the next one."""
        with self._registry.writing() as connection:
            _change(connection, job_id, JobState.QUEUED, {})

    def finish(
        self,
        job_id: str,
        state: JobState,
        message: str,
        *,
        progress: tuple[int, int | None] | None = None,
        result: str | None = None,
        expires_us: int | None = None,
    ) -> None:
        """A job ended; `progress` is how far it came, and out of how much. Raises BugError when it did so before."""
        values: dict[str, Any] = {
            "message": message[:_LONGEST_MESSAGE],
            "finished_us": self._now_us(),
            "cursor": None,
            "result_file": result,
            "result_expires_us": expires_us,
        }
        if progress is not None:
            values["done"], values["total"] = progress
        with self._registry.writing() as connection:
            _change(connection, job_id, state, values)

    def ask_cancel(self, job_id: str, actor: str) -> JobRecord:
        """One that was not begun is cancelled; one that was is told so, when it goes on.

        Raises UnknownNameError, RefusedChangeError.
        """
        now_us = self._now_us()
        with self._registry.writing() as connection:
            job = _one(connection, job_id)
            if job.state.ended:
                raise RefusedChangeError(f"this job is {job.state} already")
            if job.state is JobState.QUEUED and job.started_us is None:
                values = {"finished_us": now_us, "cancel_asked": True, "cursor": None, "message": ""}
                _change(connection, job_id, JobState.CANCELLED, values)
            else:
                connection.execute(sa.update(Job).where(Job.id == job_id).values(cancel_asked=True))
            record(connection, Deed(actor, "job.cancel", f"job:{job_id}", {"state": job.state}, None), now_us)
            return _one(connection, job_id)

    def drop_result(self, job_id: str, actor: str | None) -> None:
        """A job's result is gone; `actor` is who wanted that, None when its time was over. Raises UnknownNameError."""
        now_us = self._now_us()
        with self._registry.writing() as connection:
            job = _one(connection, job_id)
            connection.execute(sa.update(Job).where(Job.id == job_id).values(result_file=None))
            if actor is not None and job.result_file is not None:
                record(connection, Deed(actor, "job.remove_result", f"job:{job_id}"), now_us)

    def note_secrets_told(self, job_id: str, actor: str) -> None:
        """Somebody fetches a result that holds secrets."""
        with self._registry.writing() as connection:
            record(connection, Deed(actor, "job.fetch_secrets", f"job:{job_id}"), self._now_us())

    def expired(self, most: int) -> list[JobRecord]:
        """Jobs whose result has been kept long enough."""
        query = (
            sa.select(table(Job))
            .where(Job.result_file.is_not(None), Job.result_expires_us <= self._now_us())
            .order_by(Job.id)
        )
        with self._registry.reading() as connection:
            return [_record(row) for row in connection.execute(query.limit(most)).mappings()]

    def with_text(self, text: str) -> list[JobRecord]:
        """Jobs whose parameters, cursor or message hold a text."""
        holds = [column.contains(text, autoescape=True) for column in (Job.parameters, Job.cursor, Job.message)]
        with self._registry.reading() as connection:
            query = sa.select(table(Job)).where(sa.or_(*holds)).order_by(Job.id)
            return [_record(row) for row in connection.execute(query).mappings()]

    def remove(self, job_ids: Sequence[str]) -> int:
        """Remove ended jobs; how many."""
        with self._registry.writing() as connection:
            return connection.execute(sa.delete(Job).where(Job.id.in_(job_ids), Job.state.in_(_ENDED))).rowcount

    def prune(self, before_us: int, most: int) -> int:
        """Remove jobs that ended before a time and have no result left, at most so many; how many there were."""
        with self._registry.writing() as connection:
            old = (
                sa.select(Job.id)
                .where(Job.state.in_(_ENDED), Job.finished_us < before_us, Job.result_file.is_(None))
                .order_by(Job.finished_us)
                .limit(most)
            )
            ids = list(connection.execute(old).scalars())
            if ids:
                connection.execute(sa.delete(Job).where(Job.id.in_(ids)))
            return len(ids)


def _change(connection: Connection, job_id: str, state: JobState, values: Mapping[str, Any]) -> None:
    before = [one.value for one in states_before(state)]
    changed = connection.execute(
        sa.update(Job).where(Job.id == job_id, Job.state.in_(before)).values(state=state.value, **values)
    )
    if changed.rowcount != 1:
        raise BugError(f"job {job_id} can not become {state}")


def _one(connection: Connection, job_id: str) -> JobRecord:
    row = connection.execute(sa.select(table(Job)).where(Job.id == job_id)).mappings().one_or_none()
    if row is None:
        raise UnknownNameError("job", job_id)
    return _record(row)


def _record(row: RowMapping) -> JobRecord:
    values: dict[str, Any] = {column.name: row[column] for column in table(Job).columns}
    values["state"] = JobState(values["state"])
    values["parameters"] = msgspec.json.decode(values["parameters"])
    values["cursor"] = None if values["cursor"] is None else msgspec.json.decode(values["cursor"])
    return JobRecord(**values)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
