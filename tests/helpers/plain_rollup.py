"""Roll-ups in plain Python, slow and obviously right: what the vectorised ones are compared with."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from app.domain.completeness import LATE_LAG_MS, Reason, Step, expected_count, learned_period_us, sequence_step
from app.domain.reading import StateBit
from app.domain.resolution import TEN_MIN_US, to_us

Row = dict[str, Any]
MS = 1_000


def micros(row: Row, name: str = "time") -> int:
    return to_us(row[name])


def unique(rows: Iterable[Row], distinct: tuple[str, ...] = ()) -> tuple[list[Row], dict[int, int]]:
    """One row per (key, time, ...): lowest origin, then the last given; and how many more each raw time had."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[(row["key"], row["time"], *(row[name] for name in distinct))].append(row)
    chosen, copies = [], {}
    for identity in sorted(groups):
        best = min(row["origin"] for row in groups[identity])
        chosen.append([row for row in groups[identity] if row["origin"] == best][-1])
        copies[len(chosen) - 1] = len(groups[identity]) - 1
    return chosen, copies


def nearest_rank(values: list[int], top: int, bottom: int) -> int | None:
    return sorted(values)[math.ceil(len(values) * top / bottom) - 1] if values else None


def weighted(values: list[tuple[int, int]], top: int, bottom: int) -> int | None:
    spread = [value for value, weight in values for _ in range(weight)]
    return nearest_rank(spread, top, bottom)


def moments(total: Row, prefix: str, values: list[float], *, square: bool = True) -> None:
    known = bool(values)
    total[f"{prefix}_count"] = len(values)
    total[f"{prefix}_mean"] = sum(values) / len(values) if known else None
    if square:
        total[f"{prefix}_mean_square"] = sum(v * v for v in values) / len(values) if known else None
    total[f"{prefix}_min"] = min(values) if known else None
    total[f"{prefix}_max"] = max(values) if known else None


def index(total: Row, prefix: str, values: list[int]) -> int:
    steps = [b - a for a, b in itertools.pairwise(values)]
    total[f"{prefix}_first_wh"] = values[0] if values else None
    total[f"{prefix}_last_wh"] = values[-1] if values else None
    total[f"{prefix}_grown_wh"] = sum(max(step, 0) for step in steps) if values else None
    return Reason.INDEX_FELL if any(step < 0 for step in steps) else 0


def expectation(
    total: Row, start: int, end: int, until: int | None, paired: tuple[int, int], period_ms: int | None
) -> None:
    if until is not None and end > until:
        total["reasons"] |= Reason.OPEN
        end = max(until, start)
    due = max(min(end, paired[1]) - max(start, paired[0]), 0)
    if due < end - start:
        total["reasons"] |= Reason.PARTLY_PAIRED
    total["period_ms"] = period_ms
    total["expected"] = None if period_ms is None else expected_count(due, period_ms * MS)


def roll_up(
    raw: list[Row],
    registers: list[Row],
    aux: list[Row],
    *,
    period_ms: int | None,
    paired: tuple[int, int],
    copies: dict[int, int] | None = None,
    until: int | None = None,
) -> list[Row]:
    """Ten-minute rows of one key; rows sorted by time, unique."""
    buckets: dict[int, list[tuple[int, Row]]] = defaultdict(list)
    for position, row in enumerate(raw):
        buckets[micros(row) // TEN_MIN_US * TEN_MIN_US].append((position, row))
    return [
        _bucket(
            start,
            numbered,
            [row for row in registers if start <= micros(row) < start + TEN_MIN_US],
            [row for row in aux if start <= micros(row) < start + TEN_MIN_US and row["channel"] == 1],
            period_ms,
            paired,
            copies or {},
            until,
        )
        for start, numbered in sorted(buckets.items())
    ]


def _bucket(
    start: int,
    numbered: list[tuple[int, Row]],
    registers: list[Row],
    aux: list[Row],
    period_ms: int | None,
    paired: tuple[int, int],
    copies: dict[int, int],
    until: int | None,
) -> Row:
    rows = [row for _, row in numbered]
    states = 0
    for row in rows:
        states |= row["state"]
    late = sum((row["lag_ms"] or 0) > LATE_LAG_MS or row["origin"] == 1 for row in rows)
    duplicate = sum(copies.get(position, 0) for position, _ in numbered)
    total: Row = {"key": rows[0]["key"], "time": start, "first_time": micros(rows[0]), "last_time": micros(rows[-1])}
    total |= {"received": len(rows), "late": late, "states": states, "reasons": 0}
    counted = [(row["boot_id"], row["seq"]) for row in rows if row["seq"] is not None]
    steps = [sequence_step(a, b) for a, b in itertools.pairwise(counted)]
    duplicate += sum(step is Step.DUPLICATE for step, _ in steps)
    total["duplicate"] = duplicate
    total["lost"] = sum(lost for _, lost in steps) if counted else None
    total["first_boot_id"], total["first_seq"] = counted[0] if counted else (None, None)
    total["last_boot_id"], total["last_seq"] = counted[-1] if counted else (None, None)
    flags = {
        Reason.LATE: late,
        Reason.DUPLICATED: duplicate,
        Reason.NO_SEQUENCE: not counted,
        Reason.LOST: total["lost"],
        Reason.REBOOTED: any(step is Step.REBOOT for step, _ in steps),
        Reason.SEQUENCE_BROKEN: any(step is Step.BROKEN for step, _ in steps),
        Reason.METER_LINK: states & (StateBit.METER_LINK_BAD | StateBit.METER_LINK_OFF),
        Reason.NO_CLOCK: states & (StateBit.CLOCK_NEVER_SET | StateBit.STAMPED_ON_ARRIVAL),
    }
    total["reasons"] = sum(flag for flag, holds in flags.items() if holds)
    if period_ms is None and (learned := learned_period_us([micros(row) for row in rows])) is not None:
        period_ms = max((learned + 500) // MS, 1)
        total["reasons"] |= Reason.PERIOD_LEARNED
    expectation(total, start, start + TEN_MIN_US, until, paired, period_ms)
    active = [row["power"] for row in rows if row["power"] is not None and row["power_kind"] == 1]
    apparent = [row["power"] for row in rows if row["power"] is not None and row["power_kind"] == 2]
    apparent += [row["value"] for row in aux if row["kind"] == "apparent_power"]
    moments(total, "w", active)
    moments(total, "va", apparent)
    if active and apparent:
        total["reasons"] |= Reason.MIXED_POWER
    total["reasons"] |= index(total, "drawn", [row["drawn_wh"] for row in rows if row["drawn_wh"] is not None])
    injected = [round(row["value"]) for row in aux if row["kind"] == "injected_energy"]
    total["reasons"] |= index(total, "injected", injected)
    total["registers"] = _registers(rows, registers)
    rssi = [row["rssi_dbm"] for row in rows if row["rssi_dbm"] is not None]
    gaps = [row["frame_gap_ms"] for row in rows if row["frame_gap_ms"] is not None]
    total |= {"rssi_count": len(rssi), "rssi_p10": nearest_rank(rssi, 1, 10), "rssi_median": nearest_rank(rssi, 1, 2)}
    total |= {"gap_count": len(gaps), "gap_median_ms": nearest_rank(gaps, 1, 2)}
    moments(total, "voltage", [row["voltage_v"] for row in rows if row["voltage_v"] is not None], square=False)
    return total


def _registers(rows: list[Row], anchors: list[Row]) -> list[Row] | None:
    growth: list[tuple[int, int | None, int]] = []
    previous = None
    for row in rows:
        step = 0
        if row["drawn_wh"] is not None:
            step = max(row["drawn_wh"] - previous, 0) if previous is not None else 0
            previous = row["drawn_wh"]
        growth.append((micros(row), row["register"], step))
    running = [register for _, register, _ in growth if register is not None]
    items = {}
    for register in sorted({*running, *(row["register"] for row in anchors)}):
        grown = sum(step for _, runs, step in growth if runs == register)
        mine = [row for row in anchors if row["register"] == register]
        first = last = None
        if mine:
            first, last = mine[0]["drawn_wh"], mine[-1]["drawn_wh"]
            if running and running[0] == register:
                first -= sum(step for at, _, step in growth if at <= micros(mine[0]))
            if running and running[-1] == register:
                last += sum(step for at, _, step in growth if at > micros(mine[-1]))
            if last >= first:
                grown = last - first
        items[register] = {"register": register, "first_wh": first, "last_wh": last, "grown_wh": grown}
    return list(items.values()) or None


def join(rows: list[Row]) -> Row:
    """Rows of one key, in order, as one: the counts and growths within and between them."""
    first, last = rows[0], rows[-1]
    total: Row = {"key": first["key"], "first_time": first["first_time"], "last_time": last["last_time"]}
    for name in ("received", "late", "duplicate"):
        total[name] = sum(row[name] for row in rows)
    total["states"] = total["reasons"] = 0
    for row in rows:
        total["states"] |= row["states"]
        total["reasons"] |= row["reasons"] & ~int(Reason.PARTLY_PAIRED | Reason.OPEN)
    lost = [row["lost"] for row in rows if row["lost"] is not None]
    total["lost"] = sum(lost) if lost else None
    counted = [row for row in rows if row["first_seq"] is not None]
    for a, b in itertools.pairwise(counted):
        found, reason = sequence_between(a, b)
        total["lost"] += found
        total["reasons"] |= reason
    for end, at in (("first", 0), ("last", -1)):
        for name in ("boot_id", "seq"):
            total[f"{end}_{name}"] = counted[at][f"{end}_{name}"] if counted else None
    for prefix in ("w", "va", "voltage"):
        some = [row for row in rows if row[f"{prefix}_count"]]
        count = total[f"{prefix}_count"] = sum(row[f"{prefix}_count"] for row in some)
        for name in ("mean", "mean_square"):
            if f"{prefix}_{name}" in first:
                products = [row[f"{prefix}_{name}"] * row[f"{prefix}_count"] for row in some]
                total[f"{prefix}_{name}"] = sum(products) / count if count else None
        total[f"{prefix}_min"] = min((row[f"{prefix}_min"] for row in some), default=None)
        total[f"{prefix}_max"] = max((row[f"{prefix}_max"] for row in some), default=None)
    if total["w_count"] and total["va_count"]:
        total["reasons"] |= Reason.MIXED_POWER
    for prefix in ("drawn", "injected"):
        some = [row for row in rows if row[f"{prefix}_first_wh"] is not None]
        total[f"{prefix}_first_wh"] = some[0][f"{prefix}_first_wh"] if some else None
        total[f"{prefix}_last_wh"] = some[-1][f"{prefix}_last_wh"] if some else None
        steps = [b[f"{prefix}_first_wh"] - a[f"{prefix}_last_wh"] for a, b in itertools.pairwise(some)]
        grown = sum(row[f"{prefix}_grown_wh"] for row in some) + sum(max(step, 0) for step in steps)
        total[f"{prefix}_grown_wh"] = grown if some else None
        if any(step < 0 for step in steps):
            total["reasons"] |= Reason.INDEX_FELL
    total["registers"] = join_registers([row["registers"] or [] for row in rows]) or None
    for count, names in (
        ("rssi_count", (("rssi_p10", 1, 10), ("rssi_median", 1, 2))),
        ("gap_count", (("gap_median_ms", 1, 2),)),
    ):
        for name, top, bottom in names:
            total[name] = weighted([(row[name], row[count]) for row in rows if row[count]], top, bottom)
        total[count] = sum(row[count] for row in rows)
    periods = [(row["period_ms"], row["received"]) for row in rows if row["period_ms"] is not None]
    total["period_ms"] = weighted(periods, 1, 2)
    return total


def join_registers(lists: list[list[Row]]) -> list[Row]:
    joined: dict[int, Row] = {}
    for items in lists:
        for item in items:
            mine = joined.get(item["register"])
            if mine is None:
                joined[item["register"]] = dict(item)
                continue
            mine["grown_wh"] += item["grown_wh"]
            if item["first_wh"] is not None:
                if mine["last_wh"] is not None:
                    mine["grown_wh"] += max(item["first_wh"] - mine["last_wh"], 0)
                else:
                    mine["first_wh"] = item["first_wh"]
                mine["last_wh"] = item["last_wh"]
    return [joined[register] for register in sorted(joined)]


def sequence_between(a: Row, b: Row) -> tuple[int, int]:
    step, lost = sequence_step((a["last_boot_id"], a["last_seq"]), (b["first_boot_id"], b["first_seq"]))
    reason = {Step.LOSS: Reason.LOST, Step.REBOOT: Reason.REBOOTED, Step.BROKEN: Reason.SEQUENCE_BROKEN}
    return lost, int(reason.get(step, 0)) if step else 0


def combine(
    rows: list[Row], bucket: Callable[[int], tuple[int, int]], *, paired: tuple[int, int], until: int | None = None
) -> list[Row]:
    """Rows of one key into longer buckets."""
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[bucket(row["time"])].append(row)
    result = []
    for (start, end), members in sorted(groups.items()):
        total = join(members) | {"time": start}
        expectation(total, start, end, until, paired, total["period_ms"])
        result.append(total)
    return result


def with_steps(rows: list[Row]) -> list[Row]:
    """What lies between a row and the ones before it, added to it: for rows of one key, in order, from the very first."""
    result: list[Row] = []
    for position, row in enumerate(rows):
        total = dict(row)
        before = rows[:position]
        for prefix in ("drawn", "injected"):
            known = [r[f"{prefix}_last_wh"] for r in before if r[f"{prefix}_last_wh"] is not None]
            total[f"{prefix}_wh"] = row[f"{prefix}_grown_wh"]
            if known and row[f"{prefix}_first_wh"] is not None:
                step = row[f"{prefix}_first_wh"] - known[-1]
                total[f"{prefix}_wh"] += max(step, 0)
                if step < 0:
                    total["reasons"] |= Reason.INDEX_FELL
        counted = [r for r in before if r["last_seq"] is not None]
        if counted and row["first_seq"] is not None:
            lost, reason = sequence_between(counted[-1], row)
            total["lost"] += lost
            total["reasons"] |= reason
        if row["registers"]:
            total["registers"] = [_register_step(item, before) for item in row["registers"]]
        result.append(total)
    return result


def _register_step(item: Row, before: list[Row]) -> Row:
    lasts = [
        other["last_wh"]
        for row in before
        for other in row["registers"] or []
        if other["register"] == item["register"] and other["last_wh"] is not None
    ]
    if not lasts or item["first_wh"] is None:
        return item
    return item | {"grown_wh": item["grown_wh"] + max(item["first_wh"] - lasts[-1], 0)}


def assert_same(got: list[Row], wanted: list[Row]) -> None:
    """Equal rows; floats to single precision."""
    assert [(row["key"], row["time"]) for row in got] == [(row["key"], row["time"]) for row in wanted]
    for mine, theirs in zip(got, wanted, strict=False):
        for name, value in theirs.items():
            if name in ("version", "part"):
                continue
            if isinstance(value, float) and mine[name] is not None:
                assert math.isclose(mine[name], value, rel_tol=2e-6, abs_tol=1e-3), (name, mine[name], value)
            else:
                assert mine[name] == value, (name, mine[name], value, mine, theirs)


def plain(table: Any) -> list[Row]:
    """A tier table as rows with times in microseconds."""
    rows = []
    for row in table.to_pylist():
        for name in ("time", "first_time", "last_time"):
            row[name] = to_us(row[name])
        rows.append(row)
    return rows
