"""What simulations need of the platform; injected, so that they import neither hub nor stores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from app.domain.past import PastBuckets, PastHome, PastSeconds, PastSpan


class PastWriter(Protocol):
    """Takes the past of some homes in order of time."""

    def write_buckets(self, buckets: PastBuckets) -> None:
        """Ten minutes whose readings are not kept."""
        ...

    def write_seconds(self, seconds: PastSeconds) -> None:
        """Readings."""
        ...

    def finish(self) -> Any:
        """What was written: for `Past.commit`, from another process too."""
        ...


class Past(Protocol):
    """A past being written; can be sent to other processes."""

    @property
    def span(self) -> PastSpan:
        """From when to when."""
        ...

    def writer(self, rows: Sequence[int]) -> PastWriter:
        """For some of the homes, by index."""
        ...

    def by_key(self) -> list[int]:
        """The homes, so that writers of neighbours in this order make files that lie apart."""
        ...

    def commit(self, parts: Sequence[Any]) -> int:
        """Make a store of what writers finished with; its rows."""
        ...

    def write_credentials(self, path: Path) -> None:
        """The modules' credentials as CSV."""
        ...


class PastTools(Protocol):
    """Makes data directories that have a past."""

    def civil_midnight(self, time_us: int) -> int:
        """The midnight at or before a moment where our homes are."""
        ...

    def new_past(self, data_dir: Path, homes: Sequence[PastHome], span: PastSpan) -> AbstractContextManager[Past]:
        """A new data directory, in its place when the context is left in peace, else gone."""
        ...
