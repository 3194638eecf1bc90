"""The runner with kinds of its own: turns, ends of every sort, and going on after an interruption."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import ClassVar

import pytest

from app.domain.errors import OperatorInputError
from app.domain.ids import new_id
from app.domain.jobs import JobState
from app.services.jobs import context as context_module
from app.services.jobs.kinds import JobKind, kinds_of
from app.services.jobs.runner import JobRunner
from app.stores.registry.jobs import JobTable
from app.stores.registry.registry import Registry, wall_clock_us
from tests.e2e.clients import eventually

WAIT_S = 20


class Steps(JobKind):
    """Writes a byte for each step; waits for the test where it is told to."""

    name = "steps"

    def __init__(self):
        self.begun = []
        self.at_step = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def prepare(self, parameters):
        return parameters

    def run(self, context):
        file = context.result("bin")
        first = context.cursor or 0
        self.begun.append((context.parameters["name"], first, file.length))
        for step in range(first, context.parameters["steps"]):
            file.append(bytes([65 + step]))
            if context.parameters.get("wait"):
                self.at_step.release()
                assert self.go_on.acquire(timeout=WAIT_S)
            context.step_done(step + 1, done=step + 1, total=context.parameters["steps"], message=f"step {step}")
        return "all steps"


class Failing(JobKind):
    """Fails in the way it is asked to."""

    name = "failing"
    ways: ClassVar = {
        "operator": OperatorInputError("no such thing"),
        "bug": ValueError("x"),
        "disk": OSError(28, "No space"),
    }

    def prepare(self, parameters):
        return parameters

    def run(self, context):
        context.result("bin").append(b"half")
        raise self.ways[context.parameters["way"]]


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as opened:
        yield opened


@pytest.fixture
def table(registry):
    return JobTable(registry, wall_clock_us)


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(context_module, "SAVE_EACH_S", 0)
    return Steps()


@pytest.fixture
async def running(table, steps, tmp_path):
    """Starts runners one after the other, as hubs do."""

    @contextlib.asynccontextmanager
    async def start(*kinds, at_once=2):
        runner = JobRunner(
            table,
            kinds_of(*(kinds or (steps, Failing()))),
            tmp_path / "jobs",
            now_us=wall_clock_us,
            result_days=lambda: 7,
            at_once=at_once,
        )
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            await runner.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return start


def add(table, kind="steps", **parameters):
    return table.add(new_id(wall_clock_us()), kind, {"name": "a"} | parameters, owner="ann", most_waiting=99)


async def ended(table, job):
    await asyncio.to_thread(eventually, lambda: table.get(job.id).state.ended)
    return table.get(job.id)


def acquire(semaphore):
    return asyncio.to_thread(semaphore.acquire, timeout=WAIT_S)


async def test_a_job_is_done_and_its_file_named(table, running, tmp_path):
    job = add(table, steps=3)
    async with running() as runner:
        done = await ended(table, job)

        assert (done.state, done.message, done.result_file) == (JobState.DONE, "all steps", f"{job.id}.bin")
        assert (tmp_path / "jobs" / done.result_file).read_bytes() == b"ABC"
        assert done.result_expires_us > done.finished_us
        assert runner.counts["done"] == 1


async def test_two_at_once_and_the_others_in_their_order(table, running, steps):
    jobs = [add(table, name=name, steps=1, wait=True) for name in "abcd"]
    async with running() as runner:
        await acquire(steps.at_step)
        await acquire(steps.at_step)
        assert sorted(name for name, *_ in steps.begun) == ["a", "b"]
        assert runner.running == 2
        assert not steps.at_step.acquire(blocking=False)

        for _ in jobs:
            steps.go_on.release()
        for job in jobs:
            assert (await ended(table, job)).state is JobState.DONE
        assert sorted(name for name, *_ in steps.begun[:2]) == ["a", "b"]
        assert sorted(name for name, *_ in steps.begun[2:]) == ["c", "d"]


async def test_a_job_that_comes_while_the_runner_waits_is_begun(table, running):
    async with running() as runner:
        await asyncio.sleep(0)
        job = await asyncio.to_thread(add, table, steps=1)
        runner.wake()

        assert (await ended(table, job)).state is JobState.DONE


async def test_an_interrupted_job_goes_on_from_its_cursor(table, running, steps, tmp_path):
    job = add(table, steps=4, wait=True)
    async with running() as runner:
        await acquire(steps.at_step)
        steps.go_on.release()
        await acquire(steps.at_step)
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        steps.go_on.release()
        await stopping
    assert table.get(job.id).state is JobState.QUEUED
    assert (tmp_path / "jobs" / f"{job.id}.bin.part").exists()

    for _ in range(4):
        steps.go_on.release()
    async with running():
        done = await ended(table, job)

    assert steps.begun == [("a", 0, 0), ("a", 2, 2)]
    assert (tmp_path / "jobs" / done.result_file).read_bytes() == b"ABCD"


@pytest.mark.parametrize("left", [b"ABgarbage", b"AB", b"A", None], ids=["longer", "just so", "shorter", "lost"])
@pytest.mark.parametrize("named", [False, True])
async def test_what_a_crash_left_of_the_file_decides_where_it_goes_on(table, running, steps, tmp_path, left, named):
    job = add(table, steps=3)
    table.begin_next()
    table.save(job.id, {"at": 2, "bytes": 2}, done=2, total=3, message="")
    (tmp_path / "jobs").mkdir()
    if left is not None:
        # Named: it died between giving the file its name and telling so.
        (tmp_path / "jobs" / f"{job.id}.bin{'' if named else '.part'}").write_bytes(left)

    async with running():
        done = await ended(table, job)

    assert (tmp_path / "jobs" / done.result_file).read_bytes() == b"ABC"
    assert steps.begun == [("a", 2, 2) if left is not None and len(left) >= 2 else ("a", 0, 0)]


async def test_a_cancelled_job_ends_after_its_step_and_leaves_nothing(table, running, steps, tmp_path):
    job = add(table, steps=1000, wait=True)
    async with running() as runner:
        await acquire(steps.at_step)
        table.ask_cancel(job.id, "ann")
        runner.cancel(job.id)
        steps.go_on.release()

        assert (await ended(table, job)).state is JobState.CANCELLED
    assert list((tmp_path / "jobs").iterdir()) == []


class Keeping(Steps):
    """What it did stays."""

    name = "keeping"
    keeps_part = True

    def run(self, context):
        if context.file is None and context.cursor is not None:
            context.result("bin")
            context.check()
            context.file.close()
            context.file = None
        return super().run(context)


class KeepingAndFailing(Failing):
    """Fails after it has done something."""

    name = "keeping_failing"
    keeps_part = True


async def test_of_a_kind_that_keeps_its_part_a_cancel_leaves_the_file_and_the_last_word(
    table, running, steps, tmp_path
):
    kind = Keeping()
    job = add(table, "keeping", steps=1000, wait=True)
    async with running(kind) as runner:
        await acquire(kind.at_step)
        table.ask_cancel(job.id, "ann")
        runner.cancel(job.id)
        kind.go_on.release()
        cancelled = await ended(table, job)

    assert (cancelled.state, cancelled.message) == (JobState.CANCELLED, "step 0")
    assert (tmp_path / "jobs" / cancelled.result_file).read_bytes() == b"A"


async def test_one_that_was_begun_and_waits_keeps_its_part_when_it_is_cancelled(table, running, steps, tmp_path):
    kind = Keeping()
    job = add(table, "keeping", steps=1000, wait=True)
    async with running(kind) as runner:
        await acquire(kind.at_step)
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        kind.go_on.release()
        await stopping
    assert table.get(job.id).state is JobState.QUEUED
    assert table.ask_cancel(job.id, "ann").state is JobState.QUEUED
    async with running(kind):
        cancelled = await ended(table, job)

    assert (cancelled.state, cancelled.message) == (JobState.CANCELLED, "step 0")
    assert (tmp_path / "jobs" / cancelled.result_file).read_bytes() == b"A"


async def test_of_a_kind_that_keeps_its_part_a_fault_leaves_the_file(table, running, tmp_path):
    job = add(table, "keeping_failing", way="operator")
    async with running(KeepingAndFailing()):
        failed = await ended(table, job)

    assert (failed.state, failed.message) == (JobState.FAILED, "no such thing")
    assert (tmp_path / "jobs" / failed.result_file).read_bytes() == b"half"
    assert (tmp_path / "jobs" / failed.result_file).stat().st_mode & 0o077 == 0


async def test_a_cancel_that_the_last_hub_did_not_get_to_holds(table, running, steps, tmp_path):
    job = add(table, steps=3)
    table.begin_next()
    table.ask_cancel(job.id, "ann")

    async with running():
        assert (await ended(table, job)).state is JobState.CANCELLED
    assert steps.begun == []


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("operator", "no such thing"),
        ("bug", "a fault of ours; the hub's log says more"),
        ("disk", "the disk failed: No space"),
    ],
)
async def test_a_failing_job_says_why_and_leaves_no_file(table, running, tmp_path, caplog, way, sentence):
    job = add(table, "failing", way=way)
    async with running():
        failed = await ended(table, job)

    assert (failed.state, failed.message, failed.result_file) == (JobState.FAILED, sentence, None)
    assert list((tmp_path / "jobs").iterdir()) == []
    traced = [record for record in caplog.records if record.exc_info]
    assert bool(traced) == (way == "bug")


async def test_a_kind_this_hub_does_not_know_fails(table, running):
    job = add(table, "of the future")
    async with running():
        assert (await ended(table, job)).message == "this hub knows no jobs of the kind of the future"


async def test_a_job_that_ended_says_how_far_it_came(table, running, monkeypatch):
    monkeypatch.setattr(context_module, "SAVE_EACH_S", 1000)
    job = add(table, steps=3)
    async with running():
        done = await ended(table, job)
    assert (done.done, done.total, done.cursor) == (3, 3, None)


async def test_a_kind_may_refuse_a_cancel_that_comes_too_late(table, running, steps, monkeypatch):
    monkeypatch.setattr(steps, "may_cancel", lambda cursor: cursor is None)
    early, late = add(table, steps=3), add(table, steps=3)
    for job, cursor in ((early, None), (late, 2)):
        table.begin_next()
        if cursor is not None:
            table.save(job.id, {"at": cursor, "bytes": 0}, done=2, total=3, message="")
        table.ask_cancel(job.id, "ann")

    async with running():
        assert (await ended(table, early)).state is JobState.CANCELLED
        assert (await ended(table, late)).state is JobState.DONE
    assert steps.begun == [("a", 2, 0)]


async def test_a_step_that_must_be_saved_waits_for_the_registry(table, running, monkeypatch):
    from app.stores.registry.faults import RegistryFull

    monkeypatch.setattr(context_module, "_SAVE_AGAIN_S", 0)
    real, failures = table.save, []

    def failing(*args, **named):
        if len(failures) < 3:
            failures.append(args)
            raise RegistryFull("registry", "disk full")
        real(*args, **named)

    class Durable(JobKind):
        name = "durable"

        def prepare(self, parameters):
            return parameters

        def run(self, context):
            context.step_done({"step": 1}, done=1, total=2, durably=True)
            return f"saved {table.get(context.job_id).cursor}"

    monkeypatch.setattr(table, "save", failing)
    job = add(table, "durable")
    async with running(Durable()):
        done = await ended(table, job)
    assert done.message == "saved {'at': {'step': 1}, 'bytes': 0}"
    assert len(failures) == 3


async def test_files_that_belong_to_no_job_are_removed_at_the_start(table, running, tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    job = add(table, steps=1)
    async with running():
        done = await ended(table, job)
    stray = folder / f"{new_id(1)}.csv.gz.part"
    stray.write_bytes(b"x")
    (folder / f"{job.id}.other").write_bytes(b"x")

    async with running():
        late = add(table, steps=1)
        await asyncio.to_thread(eventually, lambda: not stray.exists())
    assert (folder / done.result_file).exists()
    assert not (folder / f"{job.id}.other").exists()
    assert late.id


async def test_progress_that_can_not_be_written_does_not_stop_the_work(table, running, tmp_path, monkeypatch, caplog):
    from app.stores.registry.faults import RegistryFull

    def full(*_args, **_named):
        raise RegistryFull("registry", "disk full")

    monkeypatch.setattr(table, "save", full)
    job = add(table, steps=3)
    with caplog.at_level(logging.WARNING):
        async with running() as runner:
            assert (await ended(table, job)).state is JobState.DONE
            assert runner.counts["unsaved"] == 3
    assert "progress of job" in caplog.text
