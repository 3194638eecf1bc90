"""Blocks of a neighbourhood as a past that stores take: readings by the second, or what ten minutes come to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.domain.past import PastBuckets, PastHome, PastSeconds
from device_sim.homes.chance import Anys, Int64s
from device_sim.homes.cities import CITIES
from device_sim.homes.delivery import RSSI_STEP_S, Delivery
from device_sim.homes.households import Households
from device_sim.homes.neighbourhood import Block

BUCKET_S = 600
MINUTE_S = 60
_US = 1_000_000
_STREETS = ("rue des Lilas", "rue du Moulin", "avenue de la Gare", "rue des Ecoles", "impasse des Tilleuls")
# A signal this much below its median is the tenth of the readings: what `Delivery.jitter` makes of it.
_P10_BELOW = 2

Counted = tuple[Int64s, Int64s, Int64s]


def serial_of(number: int) -> str:
    """The serial of a simulated home's module."""
    return f"SIM{number + 1:05d}"


def past_homes(homes: Households, registers: Int64s) -> list[PastHome]:
    """Invented addresses and identifiers; those of a home stay the same."""
    found = []
    for at, number in enumerate(homes.number.tolist()):
        city = CITIES[int(homes.city[at])]
        found.append(
            PastHome(
                serial=serial_of(number),
                city=city.name,
                postcode=city.postcode,
                street=f"{1 + number % 97} {_STREETS[number % len(_STREETS)]}",
                delivery_point=f"{99_000_000_000_000 + 7_919 * number:014d}",
                meter_serial=f"{99_976_000_000 + 31 * number:012d}",
                registers=int(registers[at]),
            )
        )
    return found


def seconds_of(block: Block, delivery: Delivery, before: Counted, injects: Anys) -> PastSeconds:
    """A block of seconds; `before`: what the meters showed when it began."""
    start_s, count = block.start_us // _US, block.steps
    times = start_s + np.arange(count, dtype=np.int64)
    begin, end = delivery.gaps(times)
    stamps = delivery.stamps(times)
    jitter = delivery.jitter(start_s, count)
    first = start_s - start_s % RSSI_STEP_S
    steps = delivery.rssi(first, -(-(start_s + count - first) // RSSI_STEP_S))
    return PastSeconds(
        start_us=block.start_us,
        phase_us=delivery.phase_us,
        arrived=(times < begin) | (times >= end),
        boot_id=stamps.boot_id,
        seq=stamps.seq,
        power_va=block.apparent_va,
        drawn_wh=block.drawn_wh,
        injected_wh=block.injected_wh,
        register=block.register,
        voltage_v=block.voltage_v,
        current_a=block.current_a,
        rssi_dbm=steps[:, (times - first) // RSSI_STEP_S] + jitter,
        frame_gap_ms=delivery.frame_gap_ms[:, None] + 4 * jitter,
        lag_ms=90 + 25 * jitter,
        registers_wh=before[2],
        injects=injects,
    )


def buckets_of(block: Block, delivery: Delivery, before: Counted, injects: Anys) -> PastBuckets:
    """A block of minutes, whole ten of them, as ten minutes: extremes are of minutes' means."""
    homes, minutes = block.active_w.shape
    count = minutes * MINUTE_S // BUCKET_S
    start_s = block.start_us // _US
    weights = delivery.received(start_s, minutes, MINUTE_S).reshape(homes, count, -1)
    received = weights.sum(axis=2)
    some = np.maximum(received, 1)
    starts = start_s + BUCKET_S * np.arange(count, dtype=np.int64)
    ends = starts + BUCKET_S - 1
    begin, end = delivery.gaps(starts)
    first = np.clip(np.where((begin <= starts) & (starts < end), end, starts), starts, ends)
    last = np.clip(np.where((begin <= ends) & (ends < end), begin - 1, ends), starts, ends)
    first_stamps, last_stamps = delivery.stamps(first), delivery.stamps(last)
    lost = np.where(first_stamps.boot_id == last_stamps.boot_id, last - first + 1 - received, 0)
    power = block.apparent_va.reshape(homes, count, -1)
    voltage = block.voltage_v.reshape(homes, count, -1)
    known = weights > 0

    def mean(values: Anys) -> Anys:
        found: Anys = (values * weights).sum(axis=2) / some
        return found

    drawn = np.concatenate([before[0][:, None], block.drawn_wh], axis=1)
    injected = np.concatenate([before[1][:, None], block.injected_wh], axis=1)
    register = block.register[:, :: BUCKET_S // MINUTE_S].astype(np.int64)
    drawn_first, drawn_last = _at(drawn, first - start_s), _at(drawn, last - start_s)
    registers_first, registers_last = _registers(drawn, register, before[2], drawn_first, drawn_last)
    rssi = delivery.rssi(start_s, count)
    phase_us = delivery.phase_us[:, None]
    return PastBuckets(
        start_us=block.start_us,
        received=received,
        lost=np.where(received > 0, lost, 0),
        first_us=first * _US + phase_us,
        last_us=last * _US + phase_us,
        first_boot_id=first_stamps.boot_id,
        first_seq=first_stamps.seq,
        last_boot_id=last_stamps.boot_id,
        last_seq=last_stamps.seq,
        va_mean=mean(power),
        va_mean_square=mean(power.astype(np.float64) ** 2),
        va_min=np.where(known, power, np.inf).min(axis=2),
        va_max=np.where(known, power, -np.inf).max(axis=2),
        drawn_first_wh=drawn_first,
        drawn_last_wh=drawn_last,
        injected_first_wh=_at(injected, first - start_s),
        injected_last_wh=_at(injected, last - start_s),
        register=register,
        registers_first_wh=registers_first,
        registers_last_wh=registers_last,
        rssi_p10=rssi - _P10_BELOW,
        rssi_median=rssi,
        gap_median_ms=np.broadcast_to(delivery.frame_gap_ms[:, None], (homes, count)),
        voltage_mean=mean(voltage),
        voltage_min=np.where(known, voltage, np.inf).min(axis=2),
        voltage_max=np.where(known, voltage, -np.inf).max(axis=2),
        injects=injects,
    )


def _at(edges_wh: Int64s, second: Int64s) -> Int64s:
    """The index right after some seconds, from those at the minutes' edges."""
    minute, into = second // MINUTE_S, second % MINUTE_S
    row = np.arange(len(edges_wh))[:, None]
    before = edges_wh[row, minute]
    found: Int64s = before + (edges_wh[row, minute + 1] - before) * (into + 1) // MINUTE_S
    return found


def _registers(drawn: Int64s, register: Int64s, before: Int64s, first: Int64s, last: Int64s) -> Sequence[Int64s]:
    """(homes, buckets, registers) at the first and at the last reading of each bucket."""
    edges = drawn[:, :: BUCKET_S // MINUTE_S]
    steps = np.diff(edges, axis=1)
    shown = []
    for at in (first, last):
        found = np.empty((*register.shape, before.shape[1]), np.int64)
        for number in range(before.shape[1]):
            runs = register == number + 1
            grown = np.where(runs, steps, 0)
            found[:, :, number] = before[:, number, None] + np.cumsum(grown, axis=1) - grown
            found[:, :, number] += np.where(runs, at - edges[:, :-1], 0)
        shown.append(found)
    return shown
