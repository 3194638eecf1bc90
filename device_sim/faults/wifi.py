"""Radio: dropped, weak, a bad channel, flapping."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from device_sim.faults.fault import Fault, Target, Undo, Value, number, undo_all


def _drop(target: Target, words: Mapping[str, Value]) -> Undo:
    """Access points where the target has some, else each module's own radio."""
    del words
    if target.access_points:
        for point in target.access_points:
            point.up = False
    else:
        for module in target.modules:
            module.radio.enabled = False

    def undo() -> None:
        for point in target.access_points:
            point.up = True
        if not target.access_points:
            for module in target.modules:
                module.radio.enabled = True

    return undo


def _weaken(target: Target, words: Mapping[str, Value]) -> Undo:
    loss_db = number(words, "db")
    for module in target.modules:
        module.radio.attenuation_db += loss_db

    def undo() -> None:
        for module in target.modules:
            module.radio.attenuation_db -= loss_db

    return undo


def _bad_channel(target: Target, words: Mapping[str, Value]) -> Undo:
    channel, busy = int(number(words, "channel")), number(words, "busy")

    def moved(point_number: int) -> Undo:
        point = target.access_points[point_number]
        before = (point.channel, point.bad_channel, point.bad_busy)
        point.channel, point.bad_channel, point.bad_busy = channel, channel, busy

        def undo() -> None:
            point.channel, point.bad_channel, point.bad_busy = before
            _tell(target)

        return undo

    undos = [moved(one) for one in range(len(target.access_points))]
    _tell(target)
    return undo_all(undos)


def _tell(target: Target) -> None:
    """A module learns of the new channel from the beacons, and says so."""
    for module in target.modules:
        module.link.announce()


def _flap(target: Target, words: Mapping[str, Value]) -> Undo:
    up_s, down_s = number(words, "up_s"), number(words, "down_s")

    async def flap() -> None:
        while True:
            for module in target.modules:
                module.radio.enabled = False
            await target.modules[0].world.sleep(down_s)
            for module in target.modules:
                module.radio.enabled = True
            await target.modules[0].world.sleep(up_s)

    task = asyncio.create_task(flap()) if target.modules else None

    def undo() -> None:
        if task is not None:
            task.cancel()
        for module in target.modules:
            module.radio.enabled = True

    return undo


WIFI_DROP = Fault(
    "wifi_drop",
    "silence without a FIN, 1.5 keep-alives later the will. Afterwards the same boot id, and what was measured "
    "meanwhile as arrays, `resent`",
    _drop,
)
WEAK_SIGNAL = Fault(
    "weak_signal",
    "`rssi_dbm` falls; readings come late and in clumps, below -92 dBm not at all until the signal is back",
    _weaken,
    {"db": 25.0},
)
BAD_CHANNEL = Fault(
    "bad_channel",
    "a birth with another `channel` and the same `bssid`; a good `rssi_dbm`, and readings that come late or resent",
    _bad_channel,
    {"channel": 13.0, "busy": 0.85},
)
FLAPPING = Fault(
    "flapping",
    "a new session each few seconds that takes the old one's place; births with the same boot id",
    _flap,
    {"up_s": 10.0, "down_s": 10.0},
)
