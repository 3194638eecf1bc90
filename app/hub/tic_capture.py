"""What a capture of a meter's customer output holds: counts, readings, facts of the meter, hints for a technician."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable

from app.domain.linky import (
    HistoriqueContract,
    TicMode,
    decode_day_profile,
    decode_stge,
    historique_contract,
    phases_of_serial,
)
from app.domain.reading import Reading
from app.hub.capture_findings import MAX_READINGS_KEPT
from app.protocol.tic.frames import Frame, FrameReader
from app.protocol.tic.groups import BadGroup, Event, Group, GroupReader, parse_group
from app.protocol.tic.readings import ReadingMaker

# One flipped bit in a few thousand is noise that a receiver lives with; more is a fault somebody can find.
_MUCH_NOISE = 0.02


@dataclasses.dataclass(slots=True)
class Capture:
    """The findings. `frames` are whole frames; `readings` are made of these and of frames whose end alone is
    missing; `warnings` are what is odd, with counts.
    """

    bytes_read: int = 0
    mode: TicMode | None = None
    frames: int = 0
    frames_correct: int = 0
    frames_partial: int = 0
    groups_good: int = 0
    groups_bad: int = 0
    fragments: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    bad_labels: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    modes: collections.Counter[TicMode] = dataclasses.field(default_factory=collections.Counter)
    warnings: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    readings: list[Reading] = dataclasses.field(default_factory=list)
    meter_ids: set[str] = dataclasses.field(default_factory=set)
    latest: dict[str, Group] = dataclasses.field(default_factory=dict)
    hints: list[str] = dataclasses.field(default_factory=list)


def read_capture(chunks: Iterable[bytes]) -> Capture:
    """Decode a capture; any bytes give an answer."""
    found = Capture()
    groups, frames = GroupReader(), FrameReader()
    maker = ReadingMaker()
    sample = b""
    for chunk in chunks:
        sample = sample or chunk[:4096]
        events = list(groups.feed(chunk))
        _count(found, events)
        maker = _read(found, frames.take(events), maker)
    events = list(groups.finish())
    _count(found, events)
    maker = _read(found, frames.take(events), maker)
    _read(found, frames.finish(), maker)
    found.bytes_read = groups.bytes_read
    found.frames, found.frames_correct, found.frames_partial = (
        frames.frames_whole,
        frames.frames_correct,
        frames.frames_partial,
    )
    found.groups_good, found.groups_bad, found.fragments = groups.groups_good, groups.groups_bad, groups.fragments
    found.mode = found.modes.most_common(1)[0][0] if found.modes else None
    found.hints = list(_hints(found, groups, sample))
    return found


def facts(capture: Capture) -> dict[str, str]:
    """What the capture says of the meter and its contract, for people; nothing personal."""
    latest = capture.latest

    def data(label: str) -> str | None:
        return latest[label].data.strip() if label in latest else None

    said: dict[str, str | None] = {}
    if optarif := data("OPTARIF"):
        contract = historique_contract(optarif)
        said["contract"] = _contract(contract, optarif) if contract else optarif
    said["supplier's calendar"] = data("NGTF")
    said["running tariff"] = data("LTARF") or data("PTEC")
    said["subscribed"] = f"{int(latest['PREF'].data)} kVA" if "PREF" in latest else None
    if "ISOUSC" in latest:
        said["subscribed"] = f"{int(latest['ISOUSC'].data)} A"
    serial = data("ADSC") or data("ADCO")
    phases = phases_of_serial(serial) if serial else None
    if phases is None and not latest.keys().isdisjoint({"IRMS3", "IINST3"}):
        phases = 3
    said["phases"] = str(phases) if phases else None
    if (status := decode_stge(data("STGE") or "")) is not None:
        said["breaker"] = "unknown" if status.breaker is None else status.breaker.name.lower().replace("_", " ")
        said["dry contact"] = "open" if status.dry_contact_open else "closed"
        said["terminal cover"] = "open" if status.terminal_cover_open else "closed"
        said["producer"] = "yes" if status.producer else "no"
        if status.tempo_today:
            said["Tempo"] = f"today {status.tempo_today.name.lower()}, tomorrow {status.tempo_tomorrow.name.lower()}"
    if steps := decode_day_profile(data("PJOURF+1") or ""):
        said["tomorrow"] = ", ".join(
            f"{step.minute // 60:02}:{step.minute % 60:02} register {step.register or 'unchanged'}" for step in steps
        )
    return {name: text for name, text in said.items() if text}


def _contract(contract: HistoriqueContract, optarif: str) -> str:
    program = optarif.removeprefix(contract.option)
    return f"{contract.name} ({contract.option}{f', load program {program!r}' if program else ''})"


def _count(found: Capture, events: Iterable[Event]) -> None:
    for event in events:
        if isinstance(event, Group):
            found.modes[event.mode] += 1
            found.latest[event.label] = event
        elif isinstance(event, BadGroup):
            found.reasons[event.fault.value] += 1
            found.bad_labels[event.label, event.fault.value] += 1


def _read(found: Capture, frames: Iterable[Frame], maker: ReadingMaker) -> ReadingMaker:
    for frame in frames:
        if not frame.began:
            continue
        if frame.meter_id is not None and frame.meter_id not in found.meter_ids:
            # Another meter in the same capture: its indexes have nothing to do with the first one's.
            found.meter_ids.add(frame.meter_id)
            maker = ReadingMaker() if len(found.meter_ids) > 1 else maker
        made = maker.read(frame)
        found.warnings.update(warning.value for warning in made.warnings)
        if made.reading is not None and len(found.readings) < MAX_READINGS_KEPT:
            found.readings.append(made.reading)
    return maker


def _hints(found: Capture, groups: GroupReader, sample: bytes) -> Iterable[str]:
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield "the file was saved as UTF-16 text (PowerShell's > does so): capture it again as bytes"
    if groups.bytes_with_bit_7 and found.groups_good:
        yield "bytes have bit 7 set: the port was open as 8N1; it was read, but set 7 data bits, even parity"
    if found.groups_good == 0 or found.groups_bad > found.groups_good:
        if _with_tabs_restored(sample):
            yield "tabs were turned into blanks: every checksum of the standard mode fails; capture it again as bytes"
        if re.search(rb"(\\r|\\n|\^M|<CR>|<STX>|\\x0[23ad])", sample):
            yield "control characters are written out (as in \\r or ^M): capture the line's bytes, not a log of them"
        if re.search(rb"(?:[0-9A-Fa-f]{2}[ ,:]){16}", sample):
            yield "this looks like a hexadecimal dump: turn it into bytes first (xxd -r -p)"
        if found.groups_good == 0 and groups.bytes_with_bit_7 > groups.bytes_read // 8:
            yield "mostly no text: the speed is wrong (historique 1200 baud, standard 9600), or the wiring"
    if re.search(rb"PTEC H[CP]\.\. ?[\r\n]", sample):
        yield "blanks at line ends were removed: a checksum can be a blank; capture it again as bytes"
    bad_share = found.groups_bad / max(1, found.groups_bad + found.groups_good)
    if found.groups_good and bad_share > _MUCH_NOISE:
        yield f"{bad_share:.0%} of the groups are bad: look at the wiring and the adapter's supply"
    if found.groups_good and not found.frames:
        yield "no whole frame: capture for at least 5 s (historique: two frames take up to 5 s)"
    if "PTEC" in found.latest and found.latest["PTEC"].data == "TH..":
        yield (
            "one register only: if the contract has off-peak hours, a Linky shows them in standard mode alone; "
            "the supplier switches it"
        )
    if len(found.modes) > 1:
        yield "both modes are in this capture: it was made of several, or the meter was switched meanwhile"
    if len(found.meter_ids) > 1:
        yield f"{len(found.meter_ids)} meters are in this capture"


def _with_tabs_restored(sample: bytes) -> bool:
    """Whether lines of the sample would be good groups of the standard mode if blanks were tabs."""
    good = 0
    for line in re.split(rb"[\r\n]+", sample):
        good += isinstance(parse_group(b"\t".join(line.strip(b"\x02\x03").split())), Group)
    return good >= 3
