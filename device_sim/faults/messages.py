"""Messages on their way: doubled, disordered, garbled, slow; a clock that is wrong; a broker out of reach."""

from __future__ import annotations

from collections.abc import Mapping

from device_sim.faults.fault import Fault, Target, Undo, Value, number


def _skew(target: Target, words: Mapping[str, Value]) -> Undo:
    by_ms = round(number(words, "seconds") * 1000)
    for module in target.modules:
        module.clock.skew_ms += by_ms

    def undo() -> None:
        for module in target.modules:
            module.clock.skew_ms -= by_ms

    return undo


def _duplicate(target: Target, words: Mapping[str, Value]) -> Undo:
    for module in target.modules:
        module.wire.duplicate_share = number(words, "share")

    def undo() -> None:
        for module in target.modules:
            module.wire.duplicate_share = 0.0

    return undo


def _disorder(target: Target, words: Mapping[str, Value]) -> Undo:
    for module in target.modules:
        module.wire.shuffled = int(number(words, "window"))

    def undo() -> None:
        for module in target.modules:
            module.wire.shuffled = 0
            module.link.wake()

    return undo


def _garble(target: Target, words: Mapping[str, Value]) -> Undo:
    for module in target.modules:
        module.wire.garbage_share = number(words, "share")

    def undo() -> None:
        for module in target.modules:
            module.wire.garbage_share = 0.0

    return undo


def _slow(target: Target, words: Mapping[str, Value]) -> Undo:
    for module in target.modules:
        module.wire.uplink_bytes_per_s = max(1.0, number(words, "bytes_per_s"))

    def undo() -> None:
        for module in target.modules:
            module.wire.uplink_bytes_per_s = None

    return undo


def _unreachable(target: Target, words: Mapping[str, Value]) -> Undo:
    del words
    for module in target.modules:
        module.wire.broker_unreachable = True
        module.link.cut()

    def undo() -> None:
        for module in target.modules:
            module.wire.broker_unreachable = False

    return undo


CLOCK_SKEW = Fault(
    "clock_skew",
    "`time_ms` is off by so much from one reading to the next; `seq` goes on",
    _skew,
    {"seconds": 30.0},
)
DUPLICATES = Fault("duplicates", "the same reading twice, each with its own packet", _duplicate, {"share": 1.0})
OUT_OF_ORDER = Fault(
    "out_of_order", "readings come in groups in which `seq` and `time_ms` are mixed", _disorder, {"window": 5.0}
)
GARBAGE = Fault(
    "garbage",
    "a `tele` that is neither JSON nor CBOR in place of a reading: its `seq` is missing",
    _garble,
    {"share": 0.2},
)
SLOW_UPLINK = Fault(
    "slow_uplink",
    "`round_trip_ms` grows; when readings come faster than they can go, they come ever later",
    _slow,
    {"bytes_per_s": 200.0},
)
BROKER_UNREACHABLE = Fault(
    "broker_unreachable",
    "the sockets break at once (RST) and the will is published; Wi-Fi stays. Afterwards as after `wifi_drop`",
    _unreachable,
)
