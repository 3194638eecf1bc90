"""What the hub does with journal and table, in small: append, acknowledge, commit, merge, vacuum.

Also a program, for tests that kill it: `python -m tests.app.stores.series.delta.workload DIRECTORY ROUNDS` acknowledges on standard
output, one line for each synced group: its first number and how many.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from app.stores.failpoints import FailPoint, FailPoints
from app.stores.journal.journal import Journal
from app.stores.series.delta.compaction import Compactor, job_of
from app.stores.series.delta.files import CommitLabel
from app.stores.series.delta.plan import plan
from app.stores.series.delta.table import SeriesTable, TableOptions
from app.stores.series.delta.worker import run_job
from app.stores.storage import Storage
from tests.app.stores.journal.rows import SMALL, small_batch

ROWS = 5
# Points of parts that stand on these stores; their own tests pass them.
ELSEWHERE = {FailPoint.ROLLUP, FailPoint.JOB_STEP, FailPoint.COMMANDS_MARKED, FailPoint.COMMANDS_TAKEN}


class Workload:
    """Opening replays what the journal holds."""

    def __init__(self, directory: Path, failpoints: FailPoints, storage: Storage, *, own_process: bool = False) -> None:
        self.storage = storage
        self.own_process = own_process
        options = TableOptions(append_group_rows=4, merge_group_rows=4, checkpoint_each=3, keep_s=0)
        self.table = SeriesTable.open(directory / "raw", SMALL, options, failpoints, storage)
        self.journal = Journal.open(directory / "journal", {"small": SMALL}, failpoints, storage)
        self.journal.skip_numbers(self.table.last_label(self.journal.journal_id) or 0)
        self.commit_pending()

    def run(self, first: int, rounds: int, acknowledge: Callable[[int, int], None]) -> None:
        """Each round appends three groups of rows, then does everything else."""
        for number in range(rounds):
            for group in range(3):
                begin = first + (number * 3 + group) * ROWS
                self.journal.append("small", small_batch(begin, ROWS))
                self.journal.sync()
                acknowledge(begin, ROWS)
            self.journal.seal()
            self.commit_pending()
            if number % 2:
                self.compact()
                self.table.maintain()
                self.table.vacuum(0)

    def commit_pending(self) -> None:
        for segment in self.journal.pending():
            batches = [batch for _table, batch in self.journal.read(segment)]
            rows = pa.Table.from_batches(batches, schema=SMALL)
            self.table.append(rows, label=CommitLabel(segment.journal_id, segment.number))
            self.journal.remove(segment)

    def compact(self) -> None:
        planned = plan(self.table.files(), force=True)
        if planned is None:
            return
        if self.own_process:
            Compactor().run(self.table, planned)
            return
        result = run_job(job_of(self.table, planned, None), self.storage)
        self.table.replace(planned.inputs, result.added, point=FailPoint.COMPACTION)


def main() -> None:
    directory, first, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    workload = Workload(directory, FailPoints.from_environment(os.environ), Storage(), own_process=True)
    workload.run(first, rounds, lambda begin, count: print(begin, count, flush=True))
    workload.journal.close()


if __name__ == "__main__":
    main()
