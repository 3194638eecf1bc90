"""Looks at the platform's API and says whether an expectation holds."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from device_sim.modules.module import Module
from device_sim.story.script import Bounds, EventsWanted, Expectation

_PAGE = 1000
_MOST_PAGES = 200
_RESENT = "re_sent"
_LATE_MS = 60_000
# Arguments: path, parameters; answers JSON. Blocks.
Ask = Callable[[str, Sequence[tuple[str, object]]], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What was seen: whether it is as expected, and in words."""

    holds: bool
    seen: str


class Checker:
    """Asks the API of one hub; `began_us` is when the story began, in its own time.

    A reading is due each `period_us`; what is younger than `fresh_us` may still be on its way to the store.
    """

    def __init__(self, ask: Ask, began_us: int, now_us: Callable[[], int], period_us: int, fresh_us: int) -> None:
        self._ask = ask
        self._began_us = began_us
        self._now_us = now_us
        self._period_us = period_us
        self._fresh_us = fresh_us

    async def look(self, wanted: Expectation, modules: Sequence[Module]) -> Look:
        """One look at one expectation."""
        # What the modules know is taken on the loop, before a thread asks.
        ledgers = {module.serial: frozenset(module.tally.ledger or ()) for module in modules}
        return await asyncio.to_thread(self._look, wanted, ledgers)

    def _look(self, wanted: Expectation, ledgers: Mapping[str, frozenset[int]]) -> Look:
        serials = list(ledgers)
        if wanted.states is not None:
            return self._states(wanted.states, serials)
        if wanted.rssi_dbm is not None:
            return self._every("rssi_dbm", wanted.rssi_dbm, serials)
        if wanted.frame_gap_ms is not None:
            return self._every("frame_gap_ms", wanted.frame_gap_ms, serials)
        if wanted.events is not None:
            return self._events(wanted.events, serials)
        if wanted.lost_readings is not None:
            return self._lost(wanted.lost_readings, ledgers)
        if wanted.late_readings is not None:
            late = sum(_is_late(row) for serial in serials for row in self._readings(serial))
            return Look(wanted.late_readings.hold(late), f"{late} late readings")
        if wanted.completeness is not None:
            return self._shares(wanted.completeness, serials)
        if wanted.quarantined is not None:
            return self._quarantined(wanted.quarantined)
        assert wanted.statistic is not None
        value = self._ask("/v1/statistics", ()).get(wanted.statistic.name)
        if value is None:
            return Look(False, f"there is no statistic {wanted.statistic.name!r}")
        return Look(wanted.statistic.hold(value), f"{wanted.statistic.name} is {value:g}")

    def _rows(self, serials: Sequence[str]) -> list[dict[str, Any]]:
        meant = set(serials)
        found: list[dict[str, Any]] = []
        for page in range(_MOST_PAGES):
            answer = self._ask("/v1/modules", (("offset", page * _PAGE), ("limit", _PAGE)))
            found += [row for row in answer["items"] if row["serial"] in meant]
            if (page + 1) * _PAGE >= answer["total"]:
                break
        return found

    def _states(self, wanted: Mapping[Any, Any], serials: Sequence[str]) -> Look:
        rows = self._rows(serials)
        counts = Counter(row["state"] for row in rows)
        holds = len(rows) == len(serials) and all(
            counts[state] == (len(serials) if count == "all" else count) for state, count in wanted.items()
        )
        return Look(holds, ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))

    def _every(self, name: str, bounds: Bounds, serials: Sequence[str]) -> Look:
        values = [row[name] for row in self._rows(serials)]
        known = sorted(value for value in values if value is not None)
        holds = len(known) == len(serials) and all(bounds.hold(value) for value in known)
        seen = f"{name} from {known[0]} to {known[-1]}" if known else f"no {name}"
        return Look(holds, seen + (f", {len(serials) - len(known)} unknown" if len(known) < len(serials) else ""))

    def _events(self, wanted: EventsWanted, serials: Sequence[str]) -> Look:
        meant = set(serials)
        since_us = self._began_us + round(wanted.since_s * 1e6)
        counts: Counter[str] = Counter()
        cursor = ""
        for _page in range(_MOST_PAGES):
            parameters: list[tuple[str, object]] = [("kind", wanted.kind), ("from_us", since_us), ("limit", _PAGE)]
            answer = self._ask("/v1/events", [*parameters, ("cursor", cursor)] if cursor else parameters)
            for event in answer["items"]:
                if event["module"] in meant and _has(event["details"], wanted.details):
                    counts[event["module"]] += event["count"]
            cursor = answer["cursor"] or ""
            if not cursor:
                break
        value = len(counts) if wanted.of == "modules" else sum(counts.values())
        return Look(wanted.hold(value), f"{sum(counts.values())} {wanted.kind} of {len(counts)} modules")

    def _lost(self, bounds: Bounds, ledgers: Mapping[str, frozenset[int]]) -> Look:
        lost = total = 0
        for serial, ledger in ledgers.items():
            if not ledger:
                continue
            window = (("from_us", min(ledger) * 1000), ("to_us", max(ledger) * 1000 + 1000))
            answer = self._ask(f"/v1/modules/{serial}/readings", (*window, ("every", "raw")))
            at = answer["columns"].index("time")
            stored = {row[at] // 1000 for row in answer["rows"]}
            lost += len(ledger - stored)
            total += len(ledger)
        return Look(total > 0 and bounds.hold(lost), f"{lost} of {total} acknowledged readings are missing")

    def _readings(self, serial: str) -> list[dict[str, Any]]:
        """Single readings since the story began: buckets are there only when their ten minutes are over."""
        window = (("from_us", self._began_us), ("to_us", self._until_us()), ("every", "raw"))
        answer = self._ask(f"/v1/modules/{serial}/readings", window)
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]

    def _until_us(self) -> int:
        return max(self._began_us + 1, self._now_us() - self._fresh_us)

    def _shares(self, bounds: Bounds, serials: Sequence[str]) -> Look:
        due = max(1.0, (self._until_us() - self._began_us) / self._period_us - 1)
        shares = sorted(min(1.0, len(self._readings(serial)) / due) for serial in serials)
        holds = all(bounds.hold(share) for share in shares)
        return Look(holds, f"completeness from {shares[0]:.3f} to {shares[-1]:.3f}")

    def _quarantined(self, bounds: Bounds) -> Look:
        statistics = self._ask("/v1/statistics", ())
        refused = sum(int(value) for name, value in statistics.items() if name.startswith("refused."))
        return Look(bounds.hold(refused), f"{refused} refused messages")


def _is_late(row: Mapping[str, Any]) -> bool:
    """As the platform's roll-ups count it: marked as resent, or a minute late."""
    return row["origin"] == _RESENT or (row["lag_ms"] or 0) > _LATE_MS


def _has(details: Mapping[str, Any], wanted: Mapping[str, str | int]) -> bool:
    """A nested detail is named with dots: `after.channel`."""
    for name, value in wanted.items():
        found: Any = details
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if isinstance(value, str) and isinstance(found, str):
            if value not in found:
                return False
        elif found != value:
            return False
    return True
