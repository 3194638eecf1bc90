"""When the next backup is due."""

from __future__ import annotations

import datetime as dt

import pytest

from app.domain.resolution import to_us
from app.services.backups import next_time


def moment(text):
    return to_us(dt.datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("after", "at", "due"),
    [
        ("2026-11-25T01:00+01:00", "03:30", "2026-11-25T03:30+01:00"),
        ("2026-11-25T03:30+01:00", "03:30", "2026-11-26T03:30+01:00"),
        ("2026-11-25T23:59+01:00", "00:00", "2026-11-26T00:00+01:00"),
        # 2:30 is left out in spring: half an hour after the change; in autumn it comes twice, the first counts.
        ("2026-03-28T12:00+01:00", "02:30", "2026-03-29T03:30+02:00"),
        ("2026-10-24T12:00+02:00", "02:30", "2026-10-25T02:30+02:00"),
        ("2026-10-25T02:30+02:00", "02:30", "2026-10-26T02:30+01:00"),
    ],
)
def test_the_next_time_of_day(after, at, due):
    assert next_time(at, "Europe/Paris", moment(after)) == moment(due)
