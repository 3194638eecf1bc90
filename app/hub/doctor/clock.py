"""The clock: set at all, not behind what is stored, steady, synchronised; and time zones."""

from __future__ import annotations

import ctypes
import datetime as dt
import shutil
import subprocess
import sys
import time
import zoneinfo
from collections.abc import Iterator

from app.hub.certificates import CLOCK_BEGINS
from app.hub.doctor.patient import Patient, failed, ok, unknown, warning
from app.protocol.api.doctor import Finding

_SECOND_US = 1_000_000
# While the doctor runs, seconds: a clock that is slewed moves by 0.5 ms a second.
_STEP_S = 0.25
# linux/timex.h; the offset is that of `status` where a long has eight bytes.
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_STATUS_AT = 40
_TIMEX_BYTES = 512
_ASK_S = 3.0


def check_clock(patient: Patient) -> Iterator[Finding]:
    """What can be judged without another clock, and what the system says of its synchronisation."""
    now = dt.datetime.now(dt.UTC)
    if now < CLOCK_BEGINS:
        yield failed("clock.set", f"it says {now:%Y-%m-%d %H:%M} UTC", "set the clock: no such day can be right")
    else:
        yield ok("clock.set", f"{now:%Y-%m-%d %H:%M:%S} UTC")
    yield _time_zones(patient)
    yield _synchronised()


def check_clock_against(newest_us: int | None, patient: Patient) -> Finding:
    """Against the newest reading that is stored: a clock that was set back."""
    if newest_us is None:
        return ok("clock.stored", "no reading is stored yet")
    behind_s = (newest_us - time.time_ns() // 1000) / _SECOND_US
    if behind_s > patient.settings.ingest.future_minutes * 60:
        return failed(
            "clock.stored",
            f"{behind_s / 60:,.0f} min behind the newest reading that is stored",
            "set the clock; what modules send is quarantined as being of the future meanwhile",
        )
    return ok("clock.stored", f"the newest reading that is stored is {max(0.0, -behind_s):,.0f} s old")


def check_steadiness(patient: Patient) -> Finding:
    """Whether the clock was set while we looked. To be asked last."""
    wall, steady = time.time() - patient.began[0], time.monotonic() - patient.began[1]
    step = wall - steady
    if abs(step) > _STEP_S:
        return warning("clock.steady", f"set by {step:+.3f} s within {steady:.1f} s", "see what sets it in steps")
    return ok("clock.steady", f"moved by {step * 1000:+.1f} ms against the steady clock within {steady:.1f} s")


def _time_zones(patient: Patient) -> Finding:
    name = patient.settings.store.time_zone
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return failed("clock.zones", f"no data of {name}", "install tzdata, or set store.time_zone to a zone there is")
    found = len(zoneinfo.available_timezones())
    where = "of the system" if any(map(_has_zones, zoneinfo.TZPATH)) else "of the package tzdata"
    return ok("clock.zones", f"{found} time zones {where}, {name} among them")


def _has_zones(folder: str) -> bool:
    from pathlib import Path  # noqa: PLC0415 - here only

    return (Path(folder) / "Europe").is_dir()


def _synchronised() -> Finding:
    said = kernel_says_synchronised()
    by = "the kernel"
    if said is None:
        said = _timedatectl()
        by = "timedatectl"
    if said is None:
        return unknown("clock.synchronised", "this system does not tell whether its clock is synchronised")
    if said:
        return ok("clock.synchronised", f"{by} says that the clock is synchronised")
    return warning(
        "clock.synchronised",
        f"{by} says that the clock is not synchronised by NTP",
        "start a time service (chrony, systemd-timesyncd), unless the virtual machine's host sets the clock",
    )


def kernel_says_synchronised() -> bool | None:
    """By adjtimex, which changes nothing when asked with no mode; None where it can not be asked."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    buffer = (ctypes.c_char * _TIMEX_BYTES)()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(buffer))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    status = int.from_bytes(ctypes.string_at(ctypes.addressof(buffer) + _STATUS_AT, 4), sys.byteorder)
    return state != _TIME_ERROR and not status & _STA_UNSYNC


def _timedatectl() -> bool | None:
    program = shutil.which("timedatectl")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip()) if done.returncode == 0 else None
