"""Jobs in a real database."""

from __future__ import annotations

import pytest

from app.domain.errors import BugError
from app.domain.ids import is_id, new_id
from app.domain.jobs import JobState
from app.domain.listing import parse_listing
from app.stores.registry.action_log import ActionLog
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.jobs import JOB_COLUMNS, JobTable


@pytest.fixture
def jobs(registry, clock):
    return JobTable(registry, clock)


def added(jobs, clock, **more):
    clock.now_us += 5000
    values = {"kind": "export", "parameters": {"modules": ["WD1"]}, "owner": "ann", "most_waiting": 9} | more
    return jobs.add(new_id(clock()), values.pop("kind"), values.pop("parameters"), **values)


def listing(*filters, sort=""):
    return parse_listing(JOB_COLUMNS, offset=0, limit=100, sort=sort, filters=filters)


def test_a_job_from_its_start_to_its_result(jobs, clock, registry):
    job = added(jobs, clock)
    assert (job.state, job.parameters, job.cursor, job.total) == (JobState.QUEUED, {"modules": ["WD1"]}, None, None)
    assert is_id(job.id)

    assert jobs.begin_next().id == job.id
    jobs.save(job.id, {"at": 3}, done=3, total=9, message="m" * 600)
    running = jobs.get(job.id)
    assert (running.state, running.cursor, running.done, running.total) == (JobState.RUNNING, {"at": 3}, 3, 9)
    assert len(running.message) == 500

    clock.now_us += 5000
    jobs.finish(job.id, JobState.DONE, "ready", result="x.csv.gz", expires_us=clock() + 10)
    done = jobs.get(job.id)
    assert (done.state, done.result_file, done.cursor, done.message) == (JobState.DONE, "x.csv.gz", None, "ready")
    assert done.created_us == done.started_us < done.finished_us
    deeds = ActionLog(registry).found(parse_listing({}, offset=0, limit=9, sort="", filters=()))
    assert [(deed.what, deed.subject, deed.actor) for deed in deeds.rows] == [("job.start", f"job:{job.id}", "ann")]


def test_they_begin_in_the_order_they_came(jobs, clock):
    ids = [added(jobs, clock).id for _ in range(3)]

    assert [jobs.begin_next().id for _ in ids] == ids
    assert jobs.begin_next() is None


def test_what_ran_when_the_hub_died_waits_again_with_its_cursor(jobs, clock):
    job, other = added(jobs, clock), added(jobs, clock)
    jobs.begin_next()
    jobs.save(job.id, [1, 2], done=1, total=2, message="")

    assert jobs.take_up() == 1
    again = jobs.begin_next()
    assert (again.id, again.cursor) == (job.id, [1, 2])
    assert jobs.begin_next().id == other.id


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked(jobs, clock):
    running, waiting = added(jobs, clock), added(jobs, clock)
    jobs.begin_next()

    assert jobs.ask_cancel(waiting.id, "ann").state is JobState.CANCELLED
    asked = jobs.ask_cancel(running.id, "ann")
    assert (asked.state, asked.cancel_asked) == (JobState.RUNNING, True)
    with pytest.raises(RefusedChangeError, match="cancelled already"):
        jobs.ask_cancel(waiting.id, "ann")
    assert jobs.begin_next() is None


def test_what_has_ended_stays_so(jobs, clock):
    job = added(jobs, clock)
    jobs.begin_next()
    jobs.finish(job.id, JobState.FAILED, "no")

    for state in JobState:
        with pytest.raises(BugError):
            jobs.finish(job.id, state, "")
    jobs.save(job.id, 5, done=5, total=5, message="late")
    assert (jobs.get(job.id).message, jobs.get(job.id).cursor) == ("no", None)
    with pytest.raises(UnknownNameError):
        jobs.get("0" * 26)


def test_nobody_fills_the_queue(jobs, clock):
    added(jobs, clock, most_waiting=1)

    with pytest.raises(RefusedChangeError, match="1 jobs of yours"):
        added(jobs, clock, most_waiting=1)
    added(jobs, clock, most_waiting=1, owner="bob")


def test_lists_by_owner_order_and_filter(jobs, clock):
    ids = [added(jobs, clock, owner=owner, kind=kind).id for owner, kind in [("ann", "a"), ("bob", "b"), ("ann", "c")]]
    jobs.begin_next()
    jobs.finish(ids[0], JobState.DONE, "")

    assert [job.id for job in jobs.found(listing(), owner=None).rows] == ids[::-1], "the newest first"
    assert [job.id for job in jobs.found(listing(), owner="ann").rows] == [ids[2], ids[0]]
    assert [job.id for job in jobs.found(listing("kind:in:a|b", sort="kind"), owner=None).rows] == ids[:2]
    assert [job.id for job in jobs.found(listing("kind:has:B"), owner=None).rows] == [ids[1]]
    assert [job.id for job in jobs.found(listing("finished_us:ge:1"), owner=None).rows] == [ids[0]]
    assert jobs.found(listing("finished_us:ne:1"), owner=None).total == 3, "unknown is unequal to everything"
    assert jobs.found(listing(sort="-finished_us"), owner=None).rows[0].id == ids[0], "unknown last"
    assert jobs.found(listing("kind:eq:\0"), owner=None).total == 0
    assert jobs.found(listing("kind:ne:\0"), owner=None).total == 3
    assert jobs.found(listing("kind:has:%"), owner=None).total == 0, "no pattern of SQL"


def test_retention_takes_the_oldest_ended_ones_without_a_result(jobs, clock):
    ids = [added(jobs, clock).id for _ in range(4)]
    for number, job_id in enumerate(ids[:3]):
        jobs.begin_next()
        result = f"{job_id}.csv.gz" if number == 1 else None
        jobs.finish(job_id, JobState.DONE, "", result=result, expires_us=clock() if result else None)

    assert [job.id for job in jobs.expired(9)] == [ids[1]]
    assert jobs.prune(clock() + 1, 1) == 1
    assert jobs.prune(clock() + 1, 9) == 1
    jobs.drop_result(ids[1], None)
    assert jobs.expired(9) == []
    assert jobs.prune(clock() + 1, 9) == 1
    assert [job.id for job in jobs.found(listing(), owner=None).rows] == [ids[3]], "one that waits stays"


def test_jobs_that_name_somebody_are_found_and_removed_when_they_ended(jobs, clock):
    one = added(jobs, clock)
    other = added(jobs, clock, parameters={"modules": ["WD2"]})

    assert [job.id for job in jobs.with_text('"WD1"')] == [one.id]
    assert jobs.remove([one.id, other.id]) == 0
    jobs.begin_next()
    jobs.finish(one.id, JobState.CANCELLED, "")
    assert jobs.remove([one.id, other.id]) == 1
