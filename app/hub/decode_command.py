"""`./run decode FILE`: reads a capture of a meter's serial line without a hub.

Exit codes: 0 the file holds groups of a meter; 1 it was read and holds none; 2 it can not be read.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from app.domain.errors import EnvironmentFault, OperatorInputError
from app.domain.reading import Reading, StateBit
from app.hub.tic_capture import MAX_READINGS_KEPT, Capture, facts, masked, read_capture

NOTHING_FOUND = 1
_STANDARD_INPUT = "standard input"
_CHUNK_BYTES = 65_536
_FEW_READINGS = 3


class CaptureUnreadableError(OperatorInputError):
    """A capture file that can not be read at all."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source}: {why}")
        self.source = source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after `decode`."""
    parser.epilog = (
        "exit code: 0 groups of a meter were found; 1 the file was read and holds none; 2 it can not be read"
    )
    parser.add_argument(
        "file", type=pathlib.Path, metavar="FILE", help="the capture: the line's bytes; - is standard input"
    )
    parser.add_argument("--as", dest="dialect", choices=("tic",), default="tic", help="what the meter speaks")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--show-ids", action="store_true", help="show the meter's number, which is personal data")


def run(args: argparse.Namespace) -> int:
    """Decode and print; the exit code, as the module says. Raises a WattdeckError for a file that can not be read."""
    source = _STANDARD_INPUT if _is_standard_input(args.file) else str(args.file)
    capture = read_capture(_chunks(args.file))
    if capture.bytes_read == 0:
        raise CaptureUnreadableError(source, "it is empty; nothing was captured")
    if not capture.groups_good:
        print(f"decode: {source}: no group of a meter (TIC) in {capture.bytes_read} bytes", file=sys.stderr)
        for hint in capture.hints or [_NOT_TIC]:
            print(f"decode: {hint}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(_as_json(capture, show_ids=args.show_ids)))
    elif capture.groups_good or capture.groups_bad:
        title = source if _is_standard_input(args.file) else args.file.name
        print("\n".join(_as_table(capture, title, show_ids=args.show_ids)))
    return 0 if capture.groups_good else NOTHING_FOUND


def _is_standard_input(path: pathlib.Path) -> bool:
    return str(path) == "-"


_NOT_TIC = (
    "this is no TIC; if it should be: capture at 1200 baud (historique) or 9600 (standard), 7 data bits, even parity, "
    "without RTS/CTS, for some seconds, as raw bytes"
)


def _chunks(path: pathlib.Path) -> Iterator[bytes]:
    if _is_standard_input(path):
        while chunk := sys.stdin.buffer.read(_CHUNK_BYTES):
            yield chunk
        return
    if path.is_dir():
        raise CaptureUnreadableError(str(path), "is a directory; name one file")
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise CaptureUnreadableError(str(path), "there is no such file") from None
    except PermissionError:
        raise CaptureUnreadableError(str(path), "reading it is not permitted") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror or error}") from error


def _as_json(capture: Capture, *, show_ids: bool) -> dict[str, Any]:
    by_label: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for (label, reason), count in sorted(capture.bad_labels.items()):
        by_label[label][reason] = count
    return {
        "mode": capture.mode,
        "frames": capture.frames,
        "frames_correct": capture.frames_correct,
        "frames_partial": capture.frames_partial,
        "groups_good": capture.groups_good,
        "groups_bad": capture.groups_bad,
        "fragments": capture.fragments,
        "reasons": dict(sorted(capture.reasons.items())),
        "reasons_by_label": dict(by_label),
        "meters": sorted(meter_id if show_ids else masked(meter_id) for meter_id in capture.meter_ids),
        "facts": facts(capture),
        "readings": [msgspec.to_builtins(reading, str_keys=True) for reading in capture.readings],
        "warnings": dict(sorted(capture.warnings.items())),
        "hints": capture.hints,
    }


def _as_table(capture: Capture, name: str, *, show_ids: bool) -> Iterator[str]:
    def row(title: str, text: object) -> str:
        return f"  {title:<20} {text}"

    yield f"{name}: {capture.bytes_read} bytes, TIC {capture.mode or 'in no mode'}"
    yield row("frames", f"{capture.frames} whole ({capture.frames_correct} faultless), {capture.frames_partial} cut")
    total = capture.groups_good + capture.groups_bad
    yield row("groups", f"{capture.groups_good} good, {capture.groups_bad} bad, of {total}")
    for (label, reason), count in capture.bad_labels.most_common():
        yield row("  bad", f"{count} x {label}: {reason}")
    if capture.fragments:
        yield row("fragments", f"{capture.fragments} at the edges, not counted")
    for meter_id in sorted(capture.meter_ids):
        yield row("meter", meter_id if show_ids else f"{masked(meter_id)} (--show-ids shows it)")
    for title, text in facts(capture).items():
        yield row(title, text)
    kept = "" if len(capture.readings) < MAX_READINGS_KEPT else " (the first; more are in the file)"
    yield row("readings", f"{len(capture.readings)}{kept}")
    shown = capture.readings
    few = shown if len(shown) <= _FEW_READINGS else [shown[0], shown[-1]]
    for number, reading in enumerate(few):
        title = {0: "  first", len(few) - 1: "  last"}.get(number, "") if len(few) > 1 else ""
        yield row(title, _reading_line(reading))
    for warning, count in sorted(capture.warnings.items()):
        yield row("warning", f"{count} x {warning.replace('_', ' ')}")
    for hint in capture.hints:
        yield row("hint", hint)


def _reading_line(reading: Reading) -> str:
    parts = []
    if reading.time_ms is not None:
        parts.append(dt.datetime.fromtimestamp(reading.time_ms / 1000, dt.UTC).isoformat(timespec="seconds"))
    if reading.apparent_va is not None:
        parts.append(f"{reading.apparent_va:g} VA")
    if reading.drawn_wh is not None:
        parts.append(f"drawn {reading.drawn_wh} Wh")
    if reading.injected_wh is not None:
        parts.append(f"injected {reading.injected_wh} Wh")
    if reading.register is not None:
        parts.append(f"register {reading.register}")
    volts = [volt for volt in (reading.voltage_v, reading.voltage_2_v, reading.voltage_3_v) if volt is not None]
    amperes = [ampere for ampere in (reading.current_a, reading.current_2_a, reading.current_3_a) if ampere is not None]
    if volts:
        parts.append("/".join(f"{volt:g}" for volt in volts) + " V")
    if amperes:
        parts.append("/".join(f"{ampere:g}" for ampere in amperes) + " A")
    bits = [bit.name.lower().replace("_", " ") for bit in StateBit if (reading.state or 0) & bit and bit.name]
    if bits:
        parts.append(f"[{', '.join(bits)}]")
    return ", ".join(parts)
