"""The job that makes roll-ups anew."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from app.domain.errors import OperatorInputError
from app.domain.people import Scope
from app.domain.resolution import DAY_US, Resolution
from app.services.jobs.context import JobContext
from app.services.jobs.export import MOST_MODULES, Serial, TimeUs
from app.services.jobs.kinds import JobKind, Parameters, as_parameters
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.registry import Registry
from app.stores.series.interface import SeriesStore
from app.stores.series.tiers import Retention

# Modules that one step is of: a day of one reading a second of all of them is under a million rows.
_MODULES_A_STEP = 10
# Finer first: a longer bucket is made of shorter ones. Days of one step, by tier: some 45,000 to 90,000 rows.
_DAYS_A_STEP = {Resolution.TEN_MIN: 1, Resolution.HOUR: 31, Resolution.DAY: 366}
# Rows go some time after their time is up; see upkeep.
_SLACK_DAYS = 3
_MOST_SHOWN = 20
Tier = Literal["10m", "1h", "1d"]
# Which tier, the modules after `after` and up to `last` ("" for the next ten), from when on; and what was done.
_START = {"tier": 0, "after": "", "last": "", "from_us": 0, "made": 0, "kept": 0}


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody asks for: some `modules`, or `all` of them; buckets that begin in [start_us, end_us)."""

    start_us: TimeUs
    end_us: TimeUs
    tiers: Annotated[list[Tier], msgspec.Meta(min_length=1, max_length=3)] = msgspec.field(
        default_factory=lambda: ["10m", "1h", "1d"]
    )
    modules: Annotated[list[Serial], msgspec.Meta(max_length=MOST_MODULES)] = []
    all: bool = False


class Recompute(JobKind):
    """Makes buckets anew of what is held one tier finer; where that is gone, they stay. A step: some modules and days.

    For what no late reading tells of: a site's time zone or a module's period that was wrong, supply periods that were
    corrected, a roll-up that a fault of ours has spoilt.
    """

    name: ClassVar[str] = "recompute"
    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.BACKUPS})

    def __init__(
        self, registry: Registry, store: SeriesStore, retention: Callable[[], Retention], *, now_us: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._store = store
        self._retention = retention
        self._now_us = now_us

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        asked: Asked = as_parameters(parameters, Asked)
        end_us = min(asked.end_us, self._now_us())
        if asked.start_us >= end_us:
            raise OperatorInputError("the range must begin before its end, and before now")
        if bool(asked.modules) == asked.all:
            raise OperatorInputError("name modules, or say all: one of these")
        serials = sorted(set(asked.modules))
        known = {record.serial for record in self._registry.modules(serials)} if serials else set()
        for serial in serials:
            if serial not in known:
                raise UnknownNameError("module", serial)
        tiers = [tier.value for tier in _DAYS_A_STEP if tier.value in asked.tiers]
        return {"start_us": asked.start_us, "end_us": end_us, "tiers": tiers, "modules": serials, "all": asked.all}

    def shown(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        modules = parameters["modules"]
        return {**parameters, "modules": modules[:_MOST_SHOWN], "modules_count": len(modules)}

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        wanted = context.parameters
        at: dict[str, Any] = context.cursor or _START
        # Modules that come while it runs have nothing that is old.
        serials = wanted["modules"] or sorted(record.serial for record in self._registry.modules())
        tiers = [Resolution(tier) for tier in wanted["tiers"]]
        total = len(tiers) * len(serials)
        for number, tier in enumerate(tiers):
            if number < at["tier"]:
                continue
            while some := _batch(serials, at["after"], at["last"]):
                at = at | {"last": some[-1]}
                keys = self._keys(some)
                for begin, end in self._slices(tier, max(wanted["start_us"], at["from_us"]), wanted["end_us"]):
                    done = self._store.recompute(tier, keys, begin, end)
                    at = at | {"from_us": end, "made": at["made"] + done.made, "kept": at["kept"] + done.kept}
                    self._step(context, at, number * len(serials) + serials.index(some[0]), total)
                at = at | {"after": some[-1], "last": "", "from_us": 0}
                self._step(context, at, number * len(serials) + serials.index(some[-1]) + 1, total)
            at = at | {"tier": number + 1, "after": "", "last": ""}
        return _sentence(at)

    def _step(self, context: JobContext, at: dict[str, Any], done: int, total: int) -> None:
        context.step_done(at, done=done, total=total, message=_sentence(at))

    def _keys(self, serials: Sequence[str]) -> list[int]:
        periods = self._registry.all_periods(serials)
        return [period.key for of_channel in periods.values() for period in of_channel.periods]

    def _slices(self, tier: Resolution, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
        """Bounded ranges, none where what a tier is made of can not be there any more."""
        retention = self._retention()
        finer = {Resolution.TEN_MIN: retention.raw_days, Resolution.HOUR: retention.ten_min_days}
        days = finer.get(tier, retention.hour_days) + _SLACK_DAYS
        begin = max(start_us, self._now_us() - days * DAY_US)
        while begin < end_us:
            end = min(begin + _DAYS_A_STEP[tier] * DAY_US, end_us)
            yield begin, end
            begin = end


def _sentence(at: dict[str, Any]) -> str:
    kept = f"; {at['kept']} stay as they are, since not all is left that they were made of" if at["kept"] else ""
    return f"{at['made']} buckets were made anew{kept}"


def _batch(serials: Sequence[str], after: str, last: str) -> Sequence[str]:
    """The next modules; those of a step that was interrupted, whatever modules came or went since."""
    rest = serials[bisect.bisect_right(serials, after) :]
    return rest[: bisect.bisect_right(rest, last)] if last else rest[:_MODULES_A_STEP]
