"""Frames of a simulated Linky from what it knows, byte for byte as Enedis-NOI-CPT_54E has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import NamedTuple

from app.domain.linky import TempoColour, TicMode
from device_sim.tic.contracts import PEAK_NOTICE_MINUTES, colour_of, day_profile, is_peak_day
from device_sim.tic.meter import Snapshot

_DAY = dt.timedelta(days=1)
# Tomorrow's colour stands on the meter from then on.
_COLOUR_KNOWN_HOUR = 20
_NO_MESSAGE = "PAS DE          MESSAGE         "
# A three-phase meter over its limit sends so many short frames and then a long one, until a minute after.
SHORT_FRAMES = 20
SHORT_AFTER_S = 60.0


class Group(NamedTuple):
    """A group before it is bytes."""

    label: str
    data: str
    horodate: str | None = None


class FrameMaker:
    """Makes one frame after the other in one mode; it remembers where in the cycle of short frames it is."""

    def __init__(self, mode: TicMode) -> None:
        self._mode = mode
        self._over_until_s = 0.0
        self._short_sent = 0

    def frame(self, now: Snapshot) -> list[Group]:
        """The groups of the next frame."""
        if self._mode is TicMode.STANDARD:
            return list(_standard(now))
        return list(_short(now) if self._is_short(now) else _historique(now))

    def _is_short(self, now: Snapshot) -> bool:
        if now.plan.phases != 3:
            return False
        at_s = now.local.timestamp()
        if any(now.over_current):
            self._over_until_s = at_s + SHORT_AFTER_S
        if at_s >= self._over_until_s:
            self._short_sent = 0
            return False
        self._short_sent = (self._short_sent + 1) % (SHORT_FRAMES + 1)
        return self._short_sent != 0


def _historique(now: Snapshot) -> Iterator[Group]:
    plan, contract = now.plan, now.plan.contract
    three = plan.phases == 3
    yield Group("ADCO", plan.serial)
    yield Group("OPTARIF", contract.option)
    yield Group("ISOUSC", f"{plan.subscribed_a:02}")
    # What the historique mode does not know is one index: no periods are told then.
    indexes = contract.indexes
    registers = now.registers_wh[: len(indexes)] if len(indexes) > 1 else (now.drawn_wh,)
    for label, index in zip(indexes, registers, strict=True):
        yield Group(label, f"{index:09}")
    if contract.name == "ejp" and _has_notice(now):
        yield Group("PEJP", f"{PEAK_NOTICE_MINUTES:02}")
    yield Group("PTEC", contract.periods[now.register - 1 if len(indexes) > 1 else 0])
    if contract.name == "tempo":
        yield Group("DEMAIN", ("----", "BLEU", "BLAN", "ROUG")[_tomorrow(now)])
    if three:
        for number, current in enumerate(now.amperes, start=1):
            yield Group(f"IINST{number}", f"{current:03}")
        for number in (1, 2, 3):
            yield Group(f"IMAX{number}", "060")
        yield Group("PMAX", f"{now.peaks_before[0].va:05}")
    else:
        yield Group("IINST", f"{now.amperes[0]:03}")
        if now.over_current[0]:
            yield Group("ADPS", f"{now.amperes[0]:03}")
        yield Group("IMAX", "090")
    yield Group("PAPP", f"{round(now.drawn_va, -1):05}")
    if contract.name in {"hchp", "tempo"}:
        yield Group("HHPHC", "A")
    yield Group("MOTDETAT", "000000")
    if three:
        yield Group("PPOT", "00")


def _short(now: Snapshot) -> Iterator[Group]:
    for number, is_over in enumerate(now.over_current, start=1):
        if is_over:
            yield Group(f"ADIR{number}", f"{now.amperes[number - 1]:03}")
    yield Group("ADCO", now.plan.serial)
    for number, current in enumerate(now.amperes, start=1):
        yield Group(f"IINST{number}", f"{current:03}")


def _standard(now: Snapshot) -> Iterator[Group]:
    plan, contract = now.plan, now.plan.contract
    phases = range(1, plan.phases + 1)
    three = plan.phases == 3
    yield Group("ADSC", plan.serial)
    yield Group("VTIC", "02")
    yield Group("DATE", "", _horodate(now, now.local))
    yield Group("NGTF", contract.calendar)
    yield Group("LTARF", contract.tariffs[now.register - 1])
    yield Group("EAST", f"{now.drawn_wh:09}")
    for number, index in enumerate(now.registers_wh, start=1):
        yield Group(f"EASF{number:02}", f"{index:09}")
    for number, index in enumerate(now.distributor_wh, start=1):
        yield Group(f"EASD{number:02}", f"{index:09}")
    if plan.producer:
        yield Group("EAIT", f"{now.injected_wh:09}")
        for number, index in enumerate(now.reactive_varh, start=1):
            yield Group(f"ERQ{number}", f"{index:09}")
    for number in phases:
        yield Group(f"IRMS{number}", f"{now.amperes[number - 1]:03}")
    for number in phases:
        yield Group(f"URMS{number}", f"{now.volts[number - 1]:03}")
    yield Group("PREF", f"{plan.kva:02}")
    yield Group("PCOUP", f"{plan.kva:02}")
    yield Group("SINSTS", f"{now.drawn_va:05}")
    if three:
        for number in phases:
            yield Group(f"SINSTS{number}", f"{now.phases_va[number - 1] if now.drawn_va else 0:05}")
    for peaks, suffix in ((now.peaks, ""), (now.peaks_before, "-1")):
        for number, peak in enumerate(peaks):
            yield Group(f"SMAXSN{number or ''}{suffix}", f"{peak.va:05}", _horodate(now, peak.at))
    if plan.producer:
        yield Group("SINSTI", f"{now.injected_va:05}")
        yield Group("SMAXIN", f"{now.injected_peak.va:05}", _horodate(now, now.injected_peak.at))
        before = now.injected_peak_before
        yield Group("SMAXIN-1", f"{before.va:05}", _horodate(now, before.at))
    half = now.local.replace(minute=now.local.minute // 30 * 30, second=0)
    ends = _horodate(now, half), _horodate(now, half - dt.timedelta(minutes=30))
    for at, suffix in ((0, ""), (1, "-1")):
        yield Group(f"CCASN{suffix}", f"{now.load_w[at]:05}", ends[at])
    if plan.producer:
        for at, suffix in ((0, ""), (1, "-1")):
            yield Group(f"CCAIN{suffix}", f"{now.injected_load_w[at]:05}", ends[at])
    ten_minutes = _horodate(now, now.local.replace(minute=now.local.minute // 10 * 10, second=0))
    for number in phases:
        yield Group(f"UMOY{number}", f"{now.mean_volts[number - 1]:03}", ten_minutes)
    yield Group("STGE", f"{status_register(now):08X}")
    peak_day = _peak_ahead(now)
    if peak_day is not None:
        # The season of a mobile peak is a space: no time was asked of the clock.
        yield Group("DPM1", "00", f" {peak_day:%y%m%d}070000")
        yield Group("FPM1", "00", f" {peak_day + _DAY:%y%m%d}010000")
    yield Group("MSG1", _NO_MESSAGE)
    yield Group("PRM", plan.delivery_point)
    yield Group("RELAIS", f"{int(now.contact_closed):03}")
    yield Group("NTARF", f"{now.register:02}")
    yield Group("NJOURF", "00")
    yield Group("NJOURF+1", "00")
    tomorrow = now.local.date() + _DAY
    yield Group("PJOURF+1", day_profile(contract.steps(tomorrow, plan.seed)))
    if peak_day is not None:
        yield Group("PPOINTE", day_profile(contract.steps(peak_day, plan.seed)))


def status_register(now: Snapshot) -> int:
    """STGE; what it does not name here is 0: breaker and cover closed, no over-voltage."""
    plan, local = now.plan, now.local
    status = int(not now.contact_closed)
    status |= int(now.drawn_va > plan.kva * 1000) << 7
    status |= int(plan.producer) << 8 | int(now.injected_va > 0) << 9
    status |= now.register - 1 << 10 | now.distributor_register - 1 << 14
    # A standard TIC; the meter is registered on the power line and in step with it.
    status |= int(now.clock_degraded) << 16 | 1 << 17 | 2 << 21 | 1 << 23
    if plan.contract.name == "tempo":
        colour_day = local.date() if local.hour >= 6 else local.date() - _DAY
        status |= colour_of(colour_day, plan.seed) << 24 | _tomorrow(now) << 26
    if plan.contract.name == "ejp":
        is_running = now.register == 2
        status |= int(_peak_ahead(now) is not None and not is_running) << 28 | int(is_running) << 30
    return status


def _tomorrow(now: Snapshot) -> int:
    """The colour of the day after, once it is known."""
    if now.local.hour < _COLOUR_KNOWN_HOUR:
        return TempoColour.NONE
    return colour_of(now.local.date() + _DAY, now.plan.seed)


def _has_notice(now: Snapshot) -> bool:
    minute = now.local.hour * 60 + now.local.minute
    return is_peak_day(now.local.date(), now.plan.seed) and 7 * 60 - PEAK_NOTICE_MINUTES <= minute < 7 * 60


def _peak_ahead(now: Snapshot) -> dt.date | None:
    """The day of the mobile peak that runs or is announced, the evening before, if so."""
    if now.plan.contract.name != "ejp":
        return None
    today = now.local.date()
    if now.local.hour < 1 and is_peak_day(today - _DAY, now.plan.seed):
        return today - _DAY
    if is_peak_day(today, now.plan.seed):
        return today
    is_evening = now.local.hour >= _COLOUR_KNOWN_HOUR
    return today + _DAY if is_evening and is_peak_day(today + _DAY, now.plan.seed) else None


def _horodate(now: Snapshot, local: dt.datetime) -> str:
    letter = "E" if local.dst() else "H"
    return f"{letter.lower() if now.clock_degraded else letter}{local:%y%m%d%H%M%S}"
