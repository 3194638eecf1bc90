"""What the hub tells a merging process, and what it hears back. Light: the process imports no more than it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from app.stores.series.delta.files import DataFile
from app.stores.series.delta.plan import CompactionPlan


class MergeConsumer(Protocol):
    """Sees each merged batch in the worker process; travels there and back by pickle, so keep it small.

    Batches come sorted by (key, time), one row per (key, time), all columns. A key is whole in one batch, save one that
    alone has more rows than merge.MAX_HELD_ROWS: it goes on in the next.
    """

    def consume(self, batch: pa.Table) -> None:
        """Looks at the rows."""

    def result(self) -> Any:
        """What the hub gets back; picklable."""


@dataclass(frozen=True, slots=True)
class MergeJob:
    """What the worker is told."""

    directory: Path
    schema: bytes
    plan: CompactionPlan
    # Begins the random part of the names of the files it writes.
    tag: str
    extra_key: tuple[str, ...]
    group_rows: int
    consumer: MergeConsumer | None


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """What a merge made of the rows; `cpu_s` is the worker's, `consumed` its consumer's result."""

    added: tuple[DataFile, ...]
    rows_in: int
    rows_out: int
    cpu_s: float
    consumed: Any
