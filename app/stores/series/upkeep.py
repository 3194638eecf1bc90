"""Upkeep of the store in bounded steps: roll-ups, merging files, retention, cleaning."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from app.domain.resolution import DAY_US, HOUR_US, LONGEST_DAY_US, SECOND_US
from app.stores.errors import CompactionFailed, StoreDamaged, StoreUnavailable, TableConflict
from app.stores.series.delta.compaction import CompactionOptions, CompactionResult, Compactor, plan
from app.stores.series.delta.table import SeriesTable
from app.stores.series.intake import Intake
from app.stores.series.rolling import Rolling
from app.stores.series.schema import INGESTED
from app.stores.series.tables import Tables
from app.stores.series.tiering import Level, TierState
from app.stores.series.tiers import Retention

_log = logging.getLogger(__name__)

# Raw rows go this long after their time is up: roll-ups of what came in the last moment are made first.
_SLACK_US = HOUR_US
# A merged file is cut (rewritten) only when it begins this long before the border; whole files go at once.
_BORDER_US = DAY_US
# A clock that runs ahead by more than this was set, perhaps wrongly: time to notice it before data go.
_JUMP_US = HOUR_US
_DISTRUST_S = 86_400.0
# A window is read faster from merged files; below this many small ones merging first is not worth it.
_MERGE_BEFORE_ROLLUP = 12


@dataclasses.dataclass(frozen=True, slots=True)
class UpkeepRules:
    """When upkeep is worth it."""

    # A tail query opens each file that is not merged: 60 are the limit, some more arrive while a merge runs.
    merge_files: int = 54
    # Removed files stay this long for readers in other processes.
    keep_s: float = 900
    # Retention and cleaning look this often for what has become due.
    clean_each_s: float = 600


class Upkeep:
    """Does one step at a time; merging runs beside it in a thread, which mostly waits for a process."""

    def __init__(
        self,
        tables: Tables,
        state: TierState,
        intake: Intake,
        rolling: Rolling,
        retention: Retention,
        rules: UpkeepRules,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._tables = tables
        self._state = state
        self._intake = intake
        self._rolling = rolling
        self._retention = retention
        self._monotonic_s = monotonic_s
        self._clocks: tuple[int, float] | None = None
        self._distrusted_at_s: float | None = None
        self._clean_each_us = int(rules.clean_each_s * SECOND_US)
        self._merging_options = CompactionOptions(max_appended_files=rules.merge_files)
        # Tiers have few rows and are read over months: one file a day, not one an hour.
        self._tier_options = dataclasses.replace(self._merging_options, max_windows=0, files_of_a_day=4)
        self._compactor = Compactor()
        self._merger = ThreadPoolExecutor(1, thread_name_prefix="merge")
        self._merge: Future[CompactionResult] | None = None
        self._merging = ""
        self._cleaning: list[Callable[[], int]] = []
        self._cleaned_at: int | None = None
        # For counters: what was done since the start.
        self.done: dict[str, int] = {}

    def step(self, now_us: int) -> bool:
        """One piece of work; whether more is due now. What was not finished stays due."""
        self._compare_clocks(now_us)
        self._collect_merge()
        merging = self._start_merge(before_rollup=self._rolling.due(now_us) and not self._rolling.busy)
        if merging and self._rolling.due(now_us) and not self._rolling.busy:
            # The window is read once its files are merged.
            return False
        if self._rolling.step(now_us) is not None:
            self._count("rollup")
            return True
        return self._clean(now_us)

    def set_retention(self, retention: Retention) -> None:
        """Keep each tier so long; cleaning that was planned by the old rule is forgotten."""
        self._retention = retention
        self._cleaning.clear()
        self._cleaned_at = None

    def settle(self) -> None:
        """Waits for the merge in progress."""
        if self._merge is not None:
            self._merge.exception()
            self._collect_merge()

    def interrupt(self) -> None:
        """Ends the merge in progress without a result, and forgets work begun (it is still due)."""
        self._rolling.pause()
        if self._merge is not None:
            while not self._merge.done():
                self._compactor.cancel()
                try:
                    self._merge.exception(timeout=0.05)
                except TimeoutError:
                    continue
            self._merge = None

    def close(self) -> None:
        self.interrupt()
        self._merger.shutdown()

    def _collect_merge(self) -> None:
        if self._merge is None or not self._merge.done():
            return
        merge, self._merge = self._merge, None
        try:
            merge.result()
        except (CompactionFailed, TableConflict, StoreUnavailable, StoreDamaged) as problem:
            # Nothing was changed; the next step plans anew.
            _log.warning("files were not merged: %s", problem)
        else:
            self._count("merge")

    def _start_merge(self, *, before_rollup: bool) -> bool:
        """Begins a merge when one is worth it; whether one of the raw table is running."""
        if self._merge is not None:
            return self._merging == "raw"
        for spec, table in self._tables:
            files = table.files()
            many = sum(file.level == 0 for file in files) >= _MERGE_BEFORE_ROLLUP
            options = self._merging_options if spec.name in INGESTED else self._tier_options
            planned = plan(files, options, force=spec.name == "raw" and before_rollup and many)
            if planned is not None:
                self._merge = self._merger.submit(self._compactor.run, table, planned)
                self._merging = spec.name
                return spec.name == "raw"
        return False

    def _clean(self, now_us: int) -> bool:
        if not self._cleaning:
            if self._cleaned_at is not None and 0 <= now_us - self._cleaned_at < self._clean_each_us:
                return False
            self._cleaned_at = now_us
            if self._distrusted_at_s is not None:
                return False
            for spec, table in self._tables:
                floor_us = self._floor(spec.name, now_us)
                if floor_us > 0:
                    self._cleaning.append(self._dropping(spec.name, table, floor_us))
                self._cleaning.append(table.maintain)
        if self._cleaning[0]() == 0:
            self._cleaning.pop(0)
        self._count("clean")
        return bool(self._cleaning)

    def _compare_clocks(self, now_us: int) -> None:
        """Notices when the hub's clock runs ahead of the time that passed, and when that was a day ago."""
        passed_s = self._monotonic_s()
        if self._clocks is not None and now_us - self._clocks[0] > (passed_s - self._clocks[1]) * SECOND_US + _JUMP_US:
            self._distrusted_at_s = passed_s
            _log.warning("the clock jumped ahead: nothing is dropped as too old for a day")
            self._cleaning.clear()
        elif self._distrusted_at_s is not None and passed_s - self._distrusted_at_s > _DISTRUST_S:
            self._distrusted_at_s = None
        self._clocks = (now_us, passed_s)

    def _dropping(self, name: str, table: SeriesTable, floor_us: int) -> Callable[[], int]:
        slack_us = 0 if name in ("raw", "registers", "aux") else _BORDER_US

        def drop() -> int:
            return table.drop_before(floor_us, slack_us=slack_us)

        return drop

    def _floor(self, name: str, now_us: int) -> int:
        """Rows before this go. Never before what is made from them is made."""
        floor = now_us - self._retention.days(name) * DAY_US
        if name == "raw":
            floor -= _SLACK_US
            floor -= floor % HOUR_US
            with self._intake.holding():
                # Nothing that is not rolled up goes, and what comes later for before the border becomes a late part.
                floor = min([floor, self._state.horizon(Level.TEN_MIN), *self._state.marked(Level.TEN_MIN)[:1]])
                self._state.raise_raw_floor(floor)
        if name in ("registers", "aux"):
            floor = self._state.raw_floor
        if name.startswith("ten_min"):
            floor = min([floor, self._state.horizon(Level.HOUR), *self._state.marked(Level.HOUR)[:1]]) - DAY_US
        if name.startswith("day"):
            floor -= LONGEST_DAY_US
        if name.startswith("hour"):
            days = [value for level, value in self._state.horizons().items() if level.startswith(f"{Level.DAY}:")]
            floor = min([floor, *days, *self._state.marked(Level.DAY)[:1]]) - DAY_US
        return floor

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1
