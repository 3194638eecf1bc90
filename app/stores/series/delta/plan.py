"""What to merge next: many small files into few, parted by time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.stores.series.delta.files import DataFile, Int64Array
from app.stores.series.delta.merge import MAX_INPUTS

WINDOW_US = 600_000_000
HOUR_US = 3_600_000_000
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class CompactionOptions:
    """When merging is worth it."""

    # A tail query opens each uncompacted file, so they stay below 60: some more arrive while a merge runs.
    max_appended_files: int = 54
    # Merged files of one hour are merged again when there are this many: a small fleet's day is 24 files and a few.
    files_of_an_hour: int = 4
    # Late readings make small files that span more than an hour; those of one day are merged when there are this many.
    files_of_a_day: int = 8
    # Larger hours (about 4,000 modules at 1 Hz) stay in windows: merging them again would cost more than it saves.
    max_hour_bytes: int = 96 << 20
    # Of outputs: so many windows before the newest rows get files of their own, what is older shares one for each day.
    max_windows: int = 12
    max_late_days: int = 33


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """Files to merge, the level of the outcome, and the times (UTC us) at which it is parted into files."""

    inputs: tuple[DataFile, ...]
    level: int
    edges_us: tuple[int, ...]


def plan(
    files: Sequence[DataFile], options: CompactionOptions | None = None, *, force: bool = False
) -> CompactionPlan | None:
    """What to merge next, None when nothing is worth it; `force` takes whatever is uncompacted. Pure."""
    options = options or CompactionOptions()
    appended = [file for file in files if file.level == 0]
    if len(appended) >= options.max_appended_files or (force and appended):
        inputs = tuple(sorted(appended, key=lambda file: file.order)[:MAX_INPUTS])
        return CompactionPlan(inputs, 1, _edges(inputs, options))
    newest_us = max((file.max_us for file in appended), default=0) or max((file.max_us for file in files), default=0)
    for span, wanted in ((HOUR_US, options.files_of_an_hour), (DAY_US, options.files_of_a_day)):
        for inputs in _mergeable(files, span, options):
            begin = inputs[0].min_us // span * span
            # An hour still being written would be merged again and again.
            if len(inputs) >= wanted and (begin + span + WINDOW_US <= newest_us or span == DAY_US):
                return CompactionPlan(inputs, 2, ())
    return None


def _mergeable(files: Sequence[DataFile], span: int, options: CompactionOptions) -> list[tuple[DataFile, ...]]:
    """Merged files by the hour or day they lie in (days: what lies in no hour), oldest first, small enough together."""
    groups: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        in_an_hour = file.min_us // HOUR_US == file.max_us // HOUR_US
        if file.level and in_an_hour == (span == HOUR_US) and file.min_us // span == file.max_us // span:
            groups[file.min_us // span].append(file)
    found = []
    for _start, group in sorted(groups.items()):
        smallest = sorted(group, key=lambda file: file.size_bytes)[:MAX_INPUTS]
        if sum(file.size_bytes for file in smallest) <= options.max_hour_bytes:
            found.append(tuple(sorted(smallest, key=lambda file: file.order)))
    return found


def _edges(inputs: Sequence[DataFile], options: CompactionOptions) -> tuple[int, ...]:
    """Where to part the rows by time: windows where most rows lie, days before that."""
    # Files hold rows as they arrived: the newest row of each says when that was.
    first, last = min(file.max_us for file in inputs), max(file.max_us for file in inputs)
    width = next(
        (width for width in (WINDOW_US, HOUR_US, DAY_US) if (last - first) // width < options.max_windows), None
    )
    if width is None:
        return tuple(range(last // DAY_US * DAY_US - options.max_late_days * DAY_US, last, DAY_US))
    begin = first // width * width
    windows = range(begin, last // width * width + 1, width)
    day = begin // DAY_US * DAY_US
    days = range(day - options.max_late_days * DAY_US, begin, DAY_US)
    return (*days, *windows)


def part_by_time(times: Int64Array, edges_us: Sequence[int]) -> Int64Array:
    """The number of the part each row belongs to."""
    if not edges_us:
        return np.zeros(len(times), np.int64)
    return np.searchsorted(np.array(edges_us, np.int64), times, side="right").astype(np.int64)
