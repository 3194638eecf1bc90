"""Times are judged once: kept, quarantined, or replaced by the arrival when the module has no clock."""

import pytest

from app.domain.reading import Origin, Reading, StateBit
from app.ingest.stamping import TimeLimits, Verdict, stamp
from tests.app.ingest.readings import NOW_MS, NOW_US, columns_of

LIMITS = TimeLimits.of(future_minutes=5, raw_days=2, resent_days=31)
MINUTE = 60_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("offset_ms", "resent", "verdict"),
    [
        (0, None, Verdict.KEEP),
        (5 * MINUTE, None, Verdict.KEEP),
        (5 * MINUTE + 1, None, Verdict.FUTURE),
        (-2 * DAY, None, Verdict.KEEP),
        (-2 * DAY - 1, None, Verdict.TOO_OLD),
        (-2 * DAY - 1, True, Verdict.KEEP),
        (-31 * DAY, True, Verdict.KEEP),
        (-31 * DAY - 1, True, Verdict.TOO_OLD),
    ],
)
def test_verdicts_at_their_limits(offset_ms, resent, verdict):
    found, origin = stamp(columns_of(Reading(time_ms=NOW_MS + offset_ms, resent=resent)), LIMITS)

    assert found[0] == verdict
    assert origin[0] == (Origin.RESENT if resent else Origin.MEASURED)


def test_a_clock_that_was_never_set_is_replaced_and_flagged():
    columns = columns_of(Reading(time_ms=12_345), Reading(time_ms=NOW_MS))
    verdict, _ = stamp(columns, LIMITS)

    assert list(verdict) == [Verdict.KEEP, Verdict.KEEP]
    assert columns.time_us[0] == NOW_US
    assert columns.state[0] == StateBit.CLOCK_NEVER_SET | StateBit.STAMPED_ON_ARRIVAL
    assert columns.state[1] == 0
