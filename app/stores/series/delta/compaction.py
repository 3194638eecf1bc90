"""Merging many small files into few sorted ones: what to merge, and having it done by a worker process."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from app.stores.series.delta.files import DataFile
from app.stores.series.delta.table import SeriesTable

WINDOW_US = 600_000_000
HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class CompactionOptions:
    # A reader's tail query opens each uncompacted file.
    max_appended_files: int = 60


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """Files to merge into one level; made by `plan`, valid while all its files are live."""

    inputs: tuple[DataFile, ...]
    level: int


class MergeConsumer(Protocol):
    """Sees each merged batch in the worker process; travels there and back by pickle, so keep it small.

    Batches come sorted by (key, time), one row per (key, time), all columns. A key is whole in one batch, save one that
    alone has more rows than a batch holds: it goes on in the next.
    """

    def consume(self, batch: pa.Table) -> None: ...

    def result(self) -> Any:
        """What the hub gets back; picklable."""


@dataclass(frozen=True, slots=True)
class CompactionResult:
    added: tuple[DataFile, ...]
    rows_in: int
    rows_out: int
    cpu_s: float
    consumed: Any


def plan(files: Sequence[DataFile], options: CompactionOptions, *, force: bool = False) -> CompactionPlan | None:
    """What to merge next, None when nothing is worth it; `force` takes whatever is uncompacted. Pure."""
    raise NotImplementedError


class Compactor:
    """Runs one merge at a time in a worker process of low priority; blocking, for a thread."""

    def run(
        self, table: SeriesTable, planned: CompactionPlan, consumer: MergeConsumer | None = None
    ) -> CompactionResult:
        """Merges, then commits; raises CompactionFailed, TableConflict, TableUnavailable. Nothing is visible then."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Kills the worker of a running merge, from any thread; `run` raises CompactionFailed."""

    _process: subprocess.Popen[bytes] | None = None
