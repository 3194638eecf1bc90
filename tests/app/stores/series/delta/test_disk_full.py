"""A real disk that is full, and then has room again."""

from __future__ import annotations

import errno
import subprocess

import pytest

from app.stores.errors import StoreUnavailable
from app.stores.failpoints import FailPoints
from app.stores.storage import Storage
from tests.app.stores.journal.rows import small_batch, values_of
from tests.app.stores.series.delta.workload import Workload


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(step):
    """Until it is full; the merging process, here in our own, raises the disk's error as it is."""
    for _ in range(10_000):
        try:
            step()
        except (OSError, StoreUnavailable) as problem:
            return problem.errno
    return None


def test_a_full_disk_withholds_and_then_goes_on(small_disk):
    workload = Workload(small_disk, FailPoints(), Storage())
    acknowledged = 0

    def acknowledge(_begin, count):
        nonlocal acknowledged
        acknowledged += count

    workload.run(0, 2, acknowledge)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        assert fill(lambda: file.write(bytes(4096))) == errno.ENOSPC
    first = 30
    for _ in range(3):
        workload.journal.append("small", small_batch(first, 1000))
        with pytest.raises(StoreUnavailable) as problem:
            workload.journal.sync()
        assert problem.value.errno == errno.ENOSPC
        first += 1000
    assert acknowledged == 30
    assert values_of(workload.table.scan()) == list(range(30))

    filler.unlink()
    workload.journal.sync()
    workload.journal.seal()
    workload.commit_pending()
    assert values_of(workload.table.scan()) == list(range(first))
    assert values_of(Workload(small_disk, FailPoints(), Storage()).table.scan()) == list(range(first))


def test_a_table_on_a_full_disk_stays_whole(small_disk):
    workload = Workload(small_disk, FailPoints(), Storage())
    first = 0

    def grow():
        nonlocal first
        workload.journal.append("small", small_batch(first, 2000))
        workload.journal.seal()
        first += 2000
        workload.commit_pending()
        workload.compact()

    assert fill(grow) == errno.ENOSPC
    stored = workload.table.scan().num_rows
    workload.table.vacuum(0)
    again = Workload(small_disk, FailPoints(), Storage())

    assert again.table.scan().num_rows >= stored
    assert values_of(again.table.scan()) == list(range(again.table.scan().num_rows))
    assert again.table.verification.rolled_back_commits == 0
