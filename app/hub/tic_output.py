"""How the findings in a capture of TIC are shown."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import msgspec

from app.hub.capture_findings import MAX_READINGS_KEPT, masked, reading_line
from app.hub.tic_capture import Capture, facts

_FEW_READINGS = 3


def tic_as_json(capture: Capture, *, show_ids: bool) -> dict[str, Any]:
    """The findings for a program."""
    by_label: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for (label, reason), count in sorted(capture.bad_labels.items()):
        by_label[label][reason] = count
    meters = sorted(meter_id if show_ids else masked(meter_id) for meter_id in capture.meter_ids)
    return {
        "kind": "tic",
        "messages": capture.frames + capture.frames_partial,
        "presence": [],
        "discovered": [{"dialect": "tic", "device": meter, "facts": {}} for meter in meters],
        "quarantined": [
            {"reason": reason, "detail": f"{count} times", "where": label}
            for (label, reason), count in sorted(capture.bad_labels.items())
        ],
        "mode": capture.mode,
        "frames": capture.frames,
        "frames_correct": capture.frames_correct,
        "frames_partial": capture.frames_partial,
        "groups_good": capture.groups_good,
        "groups_bad": capture.groups_bad,
        "fragments": capture.fragments,
        "reasons": dict(sorted(capture.reasons.items())),
        "reasons_by_label": dict(by_label),
        "meters": meters,
        "facts": facts(capture),
        "readings": [msgspec.to_builtins(reading, str_keys=True) for reading in capture.readings],
        "warnings": dict(sorted(capture.warnings.items())),
        "hints": capture.hints,
    }


def tic_as_table(capture: Capture, name: str, *, show_ids: bool) -> Iterator[str]:
    """The findings for a person."""

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
        yield row(title, reading_line(reading))
    for warning, count in sorted(capture.warnings.items()):
        yield row("warning", f"{count} x {warning.replace('_', ' ')}")
    for hint in capture.hints:
        yield row("hint", hint)
