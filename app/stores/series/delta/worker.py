"""The merging process: one job from standard input, its outcome to standard output; dies when the hub does."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import time
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from app.stores.series.delta.files import DataFile, Int64Array
from app.stores.series.delta.jobs import CompactionResult, MergeJob
from app.stores.series.delta.merge import merged
from app.stores.series.delta.output import FileWriter
from app.stores.series.delta.plan import part_by_time
from app.stores.series.delta.rows import TIME, int64_values
from app.stores.storage import Storage

# Below everything a person or a module waits for.
_NICENESS = 10


def run_job(job: MergeJob, storage: Storage) -> CompactionResult:
    """Merges and writes synced files that nothing names yet; when it fails they are unlinked."""
    started = time.process_time()
    schema = pa.ipc.read_schema(pa.py_buffer(job.schema))
    order = max(file.order for file in job.plan.inputs)
    writers: dict[int, FileWriter] = {}
    rows_out = 0
    with contextlib.ExitStack() as stack:
        for batch in merged(job.directory, job.plan.inputs, schema, job.extra_key):
            rows_out += batch.num_rows
            if job.consumer is not None:
                job.consumer.consume(batch)
            parts = part_by_time(int64_values(batch[TIME]), job.plan.edges_us)
            for part, rows in _split(batch, parts):
                if part not in writers:
                    writer = FileWriter(
                        job.directory,
                        schema,
                        order=order,
                        level=job.plan.level,
                        group_rows=job.group_rows,
                        storage=storage,
                        tag=job.tag,
                    )
                    writers[part] = stack.enter_context(writer)
                writers[part].write(rows)
        added: list[DataFile] = []
        for writer in writers.values():
            added += writer.finish()
        consumed = None if job.consumer is None else job.consumer.result()
    rows_in = sum(file.rows for file in job.plan.inputs)
    return CompactionResult(tuple(added), rows_in, rows_out, time.process_time() - started, consumed)


def _split(batch: pa.Table, parts: Int64Array) -> list[tuple[int, pa.Table]]:
    if not len(parts):
        return []
    lowest, highest = int(parts.min()), int(parts.max())
    if lowest == highest:
        return [(lowest, batch)]
    return [(part, batch.filter(pa.array(parts == part))) for part in np.flatnonzero(np.bincount(parts)).tolist()]


def _die_with_the_hub(requests: BinaryIO) -> None:
    requests.read()
    os._exit(3)


def main() -> int:
    """Reads one job, answers with its result or the text of what went wrong."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    length = int.from_bytes(requests.read(8), "little")
    job: MergeJob = pickle.loads(requests.read(length))  # noqa: S301 - from our own parent, over its pipe
    threading.Thread(target=_die_with_the_hub, args=(requests,), daemon=True).start()
    pa.set_cpu_count(1)
    try:
        answer: CompactionResult | str = run_job(job, Storage())
    except (OSError, pa.ArrowException, ValueError) as problem:
        answer = f"{type(problem).__name__}: {problem}"
    answers.write(pickle.dumps(answer))
    answers.flush()
    # The watching thread holds standard input; an ordinary exit would wait for its lock.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
