"""Refused messages are counted always and kept up to a bound."""

import logging

from app.ingest.quarantine import Quarantine, newest_refused


def test_the_newest_are_kept(tmp_path):
    quarantine = Quarantine(tmp_path / "q.sqlite", 5)
    for number in range(12):
        quarantine.put(number, "M1", "tele", "syntax", "detail", b"x" * 5000)
    quarantine.store(quarantine.take_pending())

    assert [message.arrival_us for message in newest_refused(tmp_path / "q.sqlite", 10)] == [11, 10, 9, 8, 7]
    assert len(newest_refused(tmp_path / "q.sqlite", 1)[0].payload) == 4096
    assert quarantine.counts["syntax"] == 12


def test_a_flood_is_counted_and_not_written(tmp_path):
    quarantine = Quarantine(tmp_path / "q.sqlite", 10_000)
    for _ in range(100_000):
        quarantine.put(0, "M1", "tele", "syntax", "", b"")

    assert quarantine.counts["syntax"] == 100_000
    assert len(quarantine.take_pending()) == 500


def test_a_bad_disk_loses_messages_but_says_so_once_and_recovers(tmp_path, caplog):
    missing = tmp_path / "gone"
    quarantine = Quarantine(missing / "q.sqlite", 10)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            quarantine.put(0, "M1", "tele", "syntax", "", b"")
            quarantine.store(quarantine.take_pending())
        missing.mkdir()
        quarantine.put(1, "M1", "tele", "range", "", b"")
        quarantine.store(quarantine.take_pending())

    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert [message.reason for message in newest_refused(missing / "q.sqlite", 9)] == ["range"]
