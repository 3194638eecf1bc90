"""kill -9 of a real process, with its merging process, at each fail point and at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.stores.failpoints import FailPoint, FailPoints
from app.stores.storage import Storage
from tests.app.stores.journal.rows import values_of
from tests.app.stores.series.delta.workload import ELSEWHERE, ROWS, Workload

_ROOT = Path(__file__).resolve().parents[5]


def started(directory, first, rounds, fail_point=""):
    environment = {**os.environ, "WATTDECK_FAIL_POINT": fail_point, "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-m", "tests.app.stores.series.delta.workload", str(directory), str(first), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=_ROOT)


def acknowledged_by(process):
    return [int(line.split()[0]) + n for line in process.stdout if line.endswith("\n") for n in range(ROWS)]


def stored_in(directory):
    workload = Workload(directory, FailPoints(), Storage())
    assert workload.journal.counters.damaged_bytes == 0
    return values_of(workload.table.scan())


@pytest.mark.parametrize("point", [point for point in FailPoint if point not in ELSEWHERE])
def test_at_each_fail_point(tmp_path, point):
    with started(tmp_path, 0, 4, f"{point}:kill@2") as process:
        acknowledged = acknowledged_by(process)
    assert process.returncode == -signal.SIGKILL
    found = stored_in(tmp_path)

    assert found[: len(acknowledged)] == acknowledged
    assert set(found) <= set(range(len(acknowledged) + ROWS))
    assert len(found) == len(set(found))


def test_at_any_moment_again_and_again(tmp_path):
    acknowledged: list[int] = []
    moments = random.Random(5)
    for number in range(3):
        with started(tmp_path, number * 1_000_000, 1000) as process:
            # Waits for life, then kills in the midst of it: the moment is left to the machine.
            lines = [process.stdout.readline() for _ in range(moments.randrange(3, 40))]
            process.kill()
            lines += process.stdout.readlines()
        acknowledged += [int(line.split()[0]) + n for line in lines if line.endswith("\n") for n in range(ROWS)]
    found = stored_in(tmp_path)

    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


def test_the_merging_process_ends_with_its_hub(tmp_path):
    """Its standard input ends; nothing else tells it."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "app.stores.series.delta.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    worker.stdin.close()
    worker.stdout.read()

    assert worker.wait(timeout=30) != 0
