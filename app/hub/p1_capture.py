"""What a capture of a P1 port (DSMR) holds."""

from __future__ import annotations

from collections.abc import Iterable

from app.hub.capture_findings import Findings
from app.protocol.dsmr.readings import ReadingMaker, meter_facts, meter_number
from app.protocol.dsmr.telegrams import BadTelegram, Event, Fault, TelegramReader

_DIALECT = "dsmr"
_EXPLAINED = {
    Fault.CRC: "the check sum contradicts the content",
    Fault.CRC_MISSING: "this meter's telegrams have a check sum, and here it is missing",
    Fault.CUT: "it stops before its end",
    Fault.TOO_LONG: "it has no end",
}


def read_p1(chunks: Iterable[bytes]) -> Findings:
    """Decode a capture; any bytes give an answer."""
    found = Findings("dsmr")
    telegrams = TelegramReader()
    makers: dict[str, ReadingMaker] = {}
    for chunk in chunks:
        for event in telegrams.feed(chunk):
            _take(found, makers, event)
    for event in telegrams.finish():
        _take(found, makers, event)
    found.bytes_read = telegrams.bytes_read
    if telegrams.fragments:
        found.hints.append("the capture ends within a telegram, which was not counted")
    if telegrams.bytes_with_bit_7 and telegrams.telegrams_good:
        found.hints.append(
            "bytes have bit 7 set: the port was open as 8N1, or there is noise; it was read all the same"
        )
    if found.reasons and found.reasons.total() * 10 > found.messages:
        found.hints.append("more than one telegram in ten is bad: look at the wiring and the level of the signal")
    return found


def _take(found: Findings, makers: dict[str, ReadingMaker], event: Event) -> None:
    found.messages += 1
    if isinstance(event, BadTelegram):
        found.refused(event.fault.value, _EXPLAINED[event.fault], f"telegram {found.messages}")
        return
    meter = meter_number(event)
    # One maker for each meter of a line, and a line has few; a file made to have many starts anew.
    if meter not in makers and len(makers) >= 100:
        makers.clear()
    made = makers.setdefault(meter, ReadingMaker()).read(event)
    found.found_facts(_DIALECT, meter, meter_facts(event))
    found.warnings.update(warning.value for warning in made.warnings)
    if made.reading is not None:
        found.found_reading(_DIALECT, meter, None, made.reading)
