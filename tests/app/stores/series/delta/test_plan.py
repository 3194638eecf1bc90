from __future__ import annotations

import itertools

from app.stores.series.delta.files import DataFile
from app.stores.series.delta.merge import MAX_INPUTS
from app.stores.series.delta.plan import DAY_US, HOUR_US, WINDOW_US, CompactionOptions, plan
from tests.app.stores.journal.rows import START_US

DAY = START_US // DAY_US * DAY_US


def file(order, level, begin_us, end_us, size=1000):
    return DataFile(f"l{level}-{order}", order, level, 100, size, 1, 9, begin_us, end_us)


def appended(count, begin_us=DAY, every_us=10_000_000):
    return [file(n, 0, begin_us + n * every_us, begin_us + (n + 1) * every_us - 1) for n in range(count)]


def test_few_appended_files_are_left_alone():
    assert plan(appended(53)) is None
    assert plan([]) is None
    assert plan([], force=True) is None


def test_many_appended_files_are_merged_by_windows():
    planned = plan(appended(60))

    assert planned is not None
    assert (len(planned.inputs), planned.level) == (60, 1)
    assert planned.edges_us[-1] == DAY
    assert all(edge % WINDOW_US == 0 for edge in planned.edges_us)


def test_force_merges_whatever_is_appended():
    planned = plan([*appended(2), file(9, 1, DAY, DAY + 5)], force=True)

    assert planned is not None
    assert len(planned.inputs) == 2


def test_the_oldest_files_come_first_and_never_too_many():
    planned = plan(list(reversed(appended(300))))

    assert planned is not None
    assert [each.order for each in planned.inputs] == list(range(MAX_INPUTS))


def test_late_rows_share_a_file_for_each_day():
    files = [file(n, 0, DAY - 3 * DAY_US, DAY + HOUR_US + n * 10_000_000) for n in range(60)]
    planned = plan(files)

    assert planned is not None
    windows = [edge for edge in planned.edges_us if edge >= DAY + HOUR_US]
    assert len(windows) == 1
    days = [edge for edge in planned.edges_us if edge < DAY + HOUR_US]
    assert all(edge % DAY_US == 0 for edge in days)
    assert len(planned.edges_us) <= 12 + 34


def test_an_import_of_months_makes_few_files():
    planned = plan(appended(60, every_us=DAY_US))

    assert planned is not None
    assert len(planned.edges_us) <= 34


def windows_of_an_hour(hour=0, size=1000):
    begin = DAY + hour * HOUR_US
    return [file(n, 1, begin + n * WINDOW_US, begin + (n + 1) * WINDOW_US - 1, size) for n in range(6)]


def test_a_past_hour_is_merged_into_one_file():
    now = [file(99, 0, DAY + 2 * HOUR_US, DAY + 2 * HOUR_US + 10)]
    planned = plan([*windows_of_an_hour(), *now])

    assert planned is not None
    assert (len(planned.inputs), planned.level, planned.edges_us) == (6, 2, ())


def test_an_hour_still_being_written_is_not():
    now = [file(99, 0, DAY + HOUR_US, DAY + HOUR_US + 10)]

    assert plan([*windows_of_an_hour(), *now]) is None


def test_hours_of_a_large_fleet_stay_in_windows():
    now = [file(99, 0, DAY + 2 * HOUR_US, DAY + 2 * HOUR_US + 10)]

    assert plan([*windows_of_an_hour(size=30 << 20), *now]) is None


def test_late_files_of_a_day_are_merged():
    late = [file(n, 1, DAY, DAY + 20 * HOUR_US) for n in range(8)]
    planned = plan([*late, file(99, 0, DAY + 3 * DAY_US, DAY + 3 * DAY_US + 1)])

    assert planned is not None
    assert (len(planned.inputs), planned.level) == (8, 2)


def test_a_day_of_a_small_fleet_ends_in_few_files():
    """Playing a day through: a commit each 10 s, merges as planned."""
    options = CompactionOptions()
    files: list[DataFile] = []
    most_appended = 0
    for n in range(8640):
        files.append(file(n, 0, DAY + n * 10_000_000, DAY + (n + 1) * 10_000_000 - 1))
        most_appended = max(most_appended, sum(each.level == 0 for each in files))
        while planned := plan(files, options):
            files = [each for each in files if each not in planned.inputs]
            begin, end = min(each.min_us for each in planned.inputs), max(each.max_us for each in planned.inputs)
            edges = [begin, *(edge for edge in planned.edges_us if begin < edge <= end), end + 1]
            order = max(each.order for each in planned.inputs)
            files += [file(order, planned.level, low, high - 1) for low, high in itertools.pairwise(edges)]

    assert most_appended <= 60
    assert len(files) <= 150
