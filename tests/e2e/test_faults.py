"""Disks that are full, slow, read-only or torn: nothing acknowledged is lost, and the hub recovers by itself."""

from __future__ import annotations

import contextlib
import subprocess

import pytest

from app.hub.bench_tools import HubTools
from tests.e2e.clients import connected, eventually, publish, publish_later, readings, sequences


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EIO"])
def test_a_disk_that_refuses_withholds_acknowledgements_and_recovers(hubs, tmp_path, error):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    # The first commits are refused, the seventh is taken.
    hub = hubs(environment={"WATTDECK_FAIL_POINT": f"journal_sync:error={error}@1-6"})
    with connected(hub, serial="WD1", secret=module.secret) as client:
        sent = publish_later(client, "WD1", *readings(10))
        eventually(lambda: hub.stats()["commit.failing"] == 1)
        assert not any(message.is_published() for message in sent), "acknowledged what is not durable"
        for message in sent:
            message.wait_for_publish(30)
        stats = hub.stats()
    assert stats["commit.failures"] >= 6
    assert stats["commit.failing"] == 0
    hub.kill()
    assert sequences(tmp_path, "WD1") == list(range(10))
    words = hub.last_words()
    assert words.count("acknowledgements are withheld") == 1
    assert words.count("can be written again") == 1


def test_a_disk_without_the_reserved_room_takes_no_readings(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(settings={"ingest.minimum_free_mb": "999999"})
    with connected(hub, serial="WD1", secret=module.secret) as client:
        sent = publish_later(client, "WD1", *readings(3))
        eventually(lambda: hub.stats()["commit.failing"] == 1)
        assert not any(message.is_published() for message in sent)
        assert hub.sigterm() == 0, "it still ends in order"
    assert "ingest.minimum_free_mb" in hub.last_words()


def test_a_series_store_that_fails_leaves_readings_in_the_journal_and_readable(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(
        settings={"ingest.segment_seconds": "1"},
        environment={"WATTDECK_FAIL_POINT": "delta_commit:error=EIO@1-3"},
    )
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(5))
        eventually(lambda: hub.stats()["archive.failures"] >= 1)
        assert sequences(tmp_path, "WD1") == list(range(5)), "while the store fails"
        eventually(lambda: hub.stats()["archive.segments"] >= 1)
    assert hub.sigterm() == 0
    assert sequences(tmp_path, "WD1") == list(range(5))


@pytest.mark.parametrize(
    "point",
    ["journal_written", "journal_synced", "delta_written", "delta_committed", "segment_delete"],
)
def test_kill_9_at_each_point_of_the_way_loses_nothing_acknowledged(hubs, tmp_path, point):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(settings={"ingest.segment_seconds": "1"}, environment={"WATTDECK_FAIL_POINT": f"{point}:kill@2"})
    acknowledged = []
    with connected(hub, serial="WD1", secret=module.secret) as client:
        number = 0
        while hub.running() and number < 2000:
            (message,) = publish_later(client, "WD1", *readings(1, first=number))
            eventually(lambda message=message: was_acknowledged(message) or not hub.running())
            if was_acknowledged(message):
                acknowledged.append(number)
            number += 1
        assert not hub.running(), f"never passed {point}"
    hub = hubs()
    assert hub.sigterm() == 0
    found = sequences(tmp_path, "WD1")
    assert sorted(set(found)) == found, "each once"
    assert set(acknowledged) <= set(found)


def was_acknowledged(message):
    """Paho refuses to say of a message that was published after the connection broke."""
    return message.rc == 0 and message.is_published()


def test_garbage_at_the_end_of_the_journal_is_cut_off(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(7))
        hub.kill()
    (segment,) = [path for path in (tmp_path / "data" / "journal").iterdir() if path.stat().st_size > 500]
    with segment.open("ab") as file:
        file.write(b"\x01\x02\x03garbage" * 100)

    assert sequences(tmp_path, "WD1") == list(range(7)), "read beside no hub"
    hub = hubs()
    assert hub.sigterm() == 0
    assert sequences(tmp_path, "WD1") == list(range(7))


def fill_up(path):
    """Write until the file system is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB, where this machine lets us make one."""
    folder = tmp_path / "data"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_file_system_that_really_fills_up(hubs, tmp_path, small_disk):
    (module,) = HubTools().provision(small_disk, ["WD1"])
    hub = hubs(settings={"ingest.minimum_free_mb": "0"})
    filler = small_disk / "filler"
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(5))
        fill_up(filler)
        sent = publish_later(client, "WD1", *readings(2000, first=5))
        eventually(lambda: hub.stats()["commit.failing"] == 1)
        filler.unlink()
        for message in sent:
            message.wait_for_publish(30)
    assert hub.sigterm() == 0
    assert sequences(tmp_path, "WD1") == list(range(2005))
