"""The hub that runs on the directory, by what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from app.client.api_call import ApiPlace, call
from app.client.errors import HubNotTrusted, HubRefused, HubUnreachable
from app.hub.doctor.patient import Patient, failed, ok, warning
from app.hub.version import VERSION
from app.protocol.api.doctor import Finding
from app.protocol.api.hub import Health

_ANSWER_S = 5.0
# What is not to be exceeded is 5 ms; a machine that does something else now and then shows a few more.
_LATE_MS = 20.0
_MANY_SEGMENTS = 30


def check_hub(patient: Patient) -> Iterator[Finding]:
    """Whether it answers, keeps what it takes, and keeps up."""
    if patient.statistics is not None:
        now = patient.statistics()
        yield from _judged(
            Health(
                VERSION,
                not now["commit.failing"],
                now["loop.lag_p99_ms"],
                bool(now["commit.failing"]),
                bool(now["archive.failing"]),
                int(now["archive.waiting_segments"]),
            )
        )
        return
    if patient.hub is None:
        if patient.is_locked:
            yield warning("hub", "a hub holds the directory and does not say where it listens", "ask again in a minute")
        else:
            yield ok("hub", "none runs on this directory")
        return
    who = f"process {patient.hub.pid}"
    try:
        place = ApiPlace.of(patient.hub)
        health = msgspec.convert(call(place, "GET", "/v1/health", timeout_s=_ANSWER_S), Health)
    except (HubUnreachable, HubRefused, HubNotTrusted, KeyError, msgspec.ValidationError) as error:
        yield failed("hub", f"{who} does not answer: {error}", "look into logs/hub.log; restart the hub")
        return
    yield ok("hub", f"{who}, version {health.version}, answers at {place.url}")
    yield from _judged(health)


def _judged(health: Health) -> Iterator[Finding]:
    if health.commit_failing or not health.ready:
        yield failed("hub.commit", "the journal takes nothing", "free space, look at the disk; logs/hub.log says why")
    else:
        yield ok("hub.commit", "readings become durable")
    waiting = f"{health.archive_waiting_segments} segments wait for the series store"
    if health.archive_failing:
        yield failed("hub.archive", f"the series store takes nothing; {waiting}", "look into logs/hub.log")
    elif health.archive_waiting_segments > _MANY_SEGMENTS:
        yield warning("hub.archive", waiting, "see whether the disk is slow, or the machine has too little to give")
    else:
        yield ok("hub.archive", waiting)
    lag = f"99 % of the loop's timers ran within {health.loop_lag_p99_ms:.1f} ms"
    if health.loop_lag_p99_ms > _LATE_MS:
        yield warning("hub.loop", lag, "end other programs on this machine, or give it fewer modules")
    else:
        yield ok("hub.loop", lag)
