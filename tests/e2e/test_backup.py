"""Backups of a hub that takes readings: what was acknowledged before is there once, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter

import deltalake
import pytest

from app.hub.bench_tools import HubTools
from tests.e2e.clients import connected, eventually, publish, publish_later, readings, sequences
from tests.e2e.conftest import ROOT, run_command

# Commits, merges and clearing away within seconds, so that a backup meets all of them.
BUSY = dict(HubTools.maintenance_settings)


class Traffic:
    """A module that publishes with QoS 1 all the time; what was acknowledged by then is known at any moment."""

    def __init__(self, hub, module):
        self._hub = hub
        self._module = module
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged = set()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def acknowledged(self):
        with self._lock:
            return set(self._acknowledged)

    def _run(self):
        number = 0
        with connected(self._hub, serial=self._module.serial, secret=self._module.secret) as client:
            while not self._stop.is_set():
                sent = publish_later(client, self._module.serial, *readings(50, first=number))
                for message in sent:
                    message.wait_for_publish(30)
                with self._lock:
                    self._acknowledged.update(range(number, number + 50))
                number += 50


def backup(tmp_path, *words):
    answer = run_command("backup", tmp_path / "backups", "--data", tmp_path / "data", "--json", *words)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def restore(tmp_path, to, *words):
    """Into `to`/data."""
    answer = run_command("restore", tmp_path / "backups", "--data", to / "data", "--json", *words)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def rows_by_sequence(data):
    """How often each sequence number stands in the raw table, as an independent reader of Delta tables sees it."""
    return Counter(deltalake.DeltaTable(data / "series" / "raw").to_pyarrow_table(columns=["seq"])["seq"].to_pylist())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_acknowledged_before_a_backup_is_restored_exactly_once(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(settings=BUSY)
    made = []
    with Traffic(hub, module) as traffic:
        eventually(lambda: len(traffic.acknowledged()) >= 500)
        for _ in range(3):
            before = traffic.acknowledged()
            made.append((backup(tmp_path)["snapshot"], before))
            eventually(lambda before=before: len(traffic.acknowledged()) > len(before) + 300)
        assert hub.stats()["archive.segments"] > 2, "segments moved while backups were made"
    assert hub.sigterm() == 0

    verified = run_command("verify-backup", tmp_path / "backups")
    assert verified.returncode == 0, verified.stdout
    for number, (snapshot, before) in enumerate(made):
        there = tmp_path / f"restored{number}"
        restore(tmp_path, there, "--snapshot", snapshot)
        counted = rows_by_sequence(there / "data")
        assert before <= set(counted), "lost what had been acknowledged"
        assert set(counted.values()) == {1}, "twice"
        assert sequences(there, "WD1") == sorted(counted)


def test_a_restored_directory_runs_and_takes_more(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    host, port = hub.address("api")
    look = urllib.request.Request(
        f"http://{host}:{port}/v1/modules/WD1/readings?from_us=0&to_us=1",
        headers={"Authorization": f"Bearer {hub.token}", "Wattdeck-Purpose": "test"},
    )
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(20))
        urllib.request.urlopen(look, timeout=10).close()
        backup(tmp_path)
    hub.kill()
    there = tmp_path / "restored"
    answer = restore(tmp_path, there)
    log = run_command("verify-log", "--data", there / "data", "--json")
    assert (log.returncode, json.loads(log.stdout)["entries"]) == (0, 1), log.stdout

    fresh = HubTools().start_hub(there / "data")
    try:
        with connected(fresh, serial="WD1", secret=module.secret) as client:
            publish(client, "WD1", *readings(5, first=20))
        assert fresh.sigterm() == 0
    finally:
        fresh.kill()
    assert sequences(there, "WD1") == list(range(25))
    assert answer["journal_id"] != json.loads((tmp_path / "data" / "journal" / "journal.json").read_text())["journal"]
    # And the restored hub goes on in the same folder of backups.
    again = run_command("backup", tmp_path / "backups", "--data", there / "data", "--json")
    assert again.returncode == 0, again.stderr


def test_a_second_backup_copies_what_is_new_alone(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(settings={"ingest.segment_seconds": "1"})
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(400))
        eventually(lambda: hub.stats()["archive.segments"] >= 1)
        eventually(lambda: hub.stats()["archive.waiting_segments"] == 0)
    assert hub.sigterm() == 0
    first, second = backup(tmp_path), backup(tmp_path)
    assert second["size_bytes"] == pytest.approx(first["size_bytes"], rel=0.2)
    parquet = sum(path.stat().st_size for path in (tmp_path / "data" / "series").rglob("l*.parquet"))
    assert first["added_bytes"] > parquet
    # The registry's dump is sealed anew each time.
    assert second["added_bytes"] < first["added_bytes"] - parquet + 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_in_the_middle_leaves_the_earlier_ones_whole(tmp_path):
    HubTools().provision(tmp_path / "data", ["WD1"])
    from tests.app.stores.backup.data import fill_series

    fill_series(tmp_path / "data", files=6)
    good = backup(tmp_path)["snapshot"]
    fill_series(tmp_path / "data", files=6, first=6)
    for kill_at in (1, 3, 6, 9):
        words = [sys.executable, "-c", _KILLED, str(tmp_path / "backups"), str(tmp_path / "data"), str(kill_at)]
        ended = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        verified = run_command("verify-backup", tmp_path / "backups", "--json")
        assert verified.returncode == 0, verified.stdout
        assert json.loads(verified.stdout)["snapshots"] == [good]
    restore(tmp_path, tmp_path / "restored")

    after = backup(tmp_path)
    assert not list((tmp_path / "backups").rglob("unfinished-*"))
    assert not list((tmp_path / "backups").rglob("*.new"))
    names = {path.name for path in (tmp_path / "backups" / "objects").glob("*/*")}
    assert len(names) > after["files"] - 1
    assert run_command("verify-backup", tmp_path / "backups").returncode == 0


def test_ctrl_c_leaves_nothing_unfinished(tmp_path):
    from tests.app.stores.backup.data import fill_series

    HubTools().provision(tmp_path / "data", ["WD1"])
    fill_series(tmp_path / "data", files=6)
    words = [
        sys.executable,
        "-c",
        _KILLED.replace("SIGKILL", "SIGINT"),
        str(tmp_path / "backups"),
        str(tmp_path / "data"),
    ]
    ended = subprocess.run([*words, "4"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert "KeyboardInterrupt" in ended.stderr
    assert not list((tmp_path / "backups").rglob("unfinished-*"))
    assert not list((tmp_path / "backups" / "snapshots").iterdir())
    backup(tmp_path)

    words = [sys.executable, "-c", _INTERRUPTED, str(tmp_path / "backups"), str(tmp_path / "restored")]
    ended = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    assert "KeyboardInterrupt" in ended.stderr
    assert not (tmp_path / "restored").exists()


_INTERRUPTED = """
import os, signal, sys
# A shell has its background jobs ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from app.hub.restore_command import facts_of
from app.stores.backup import restoring
from app.stores.backup.directory import BackupDirectory
from app.stores.registry.registry import wall_clock_us

real = restoring.make_at_version
def interrupted(*words):
    real(*words)
    os.kill(os.getpid(), signal.SIGINT)
restoring.make_at_version = interrupted
root = Path(sys.argv[2])
target = restoring.Target(root, root / "registry.sqlite", facts_of)
restoring.restore_backup(BackupDirectory(Path(sys.argv[1])), None, target, now_us=wall_clock_us)
"""

# Killed just before it gives the Nth file of the backup directory its name.
_KILLED = """
import os, signal, sys
# A shell has its background jobs ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.making import Source, make_backup
from app.stores.registry.registry import Registry, wall_clock_us
from app.stores.storage import Storage

class Killed(Storage):
    count = 0
    def rename(self, source, target):
        Killed.count += 1
        if Killed.count == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().rename(source, target)

data = Path(sys.argv[2])
with Registry.open(data / "registry.sqlite") as registry:
    source = Source(data, registry, "test", data / "registry.sqlite")
    make_backup(source, BackupDirectory(Path(sys.argv[1]), Killed()), now_us=wall_clock_us)
"""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB for the backups, where this machine lets us make one."""
    folder = tmp_path / "backups"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_leaves_the_earlier_ones_whole(tmp_path, small_disk):
    from tests.app.stores.backup.data import fill_series

    HubTools().provision(tmp_path / "data", ["WD1"])
    fill_series(tmp_path / "data", files=2)
    good = backup(tmp_path)["snapshot"]
    fill_series(tmp_path / "data", files=8, first=2, rows=60_000)
    used = sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file())

    failed = run_command("backup", small_disk, "--data", tmp_path / "data")
    assert failed.returncode == 2, failed.stdout
    assert "No space left" in failed.stderr
    assert "earlier ones are whole" in failed.stderr
    assert "Traceback" not in failed.stderr
    verified = run_command("verify-backup", small_disk, "--json")
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["snapshots"] == [good]
    left = sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file())
    assert left < used + 100_000, "a full disk stayed full"


def test_a_hub_refuses_a_directory_that_was_half_restored(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "restore.unfinished").write_text("")
    answer = run_command("hub", "--data", tmp_path / "data", "--mqtt-port", "0", "--api-port", "0")
    assert answer.returncode == 2
    assert "interrupted" in answer.stderr


def test_the_hub_makes_its_backups_by_itself(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(settings={"backup.directory": str(tmp_path / "backups"), "backup.at": "03:30", "backup.keep": "2"})
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(10))
    # There is none yet, so the first one is made at once.
    eventually(lambda: hub.stats()["backup.last_ok_age_s"] >= 0)
    stats = hub.stats()
    assert (stats["backup.runs"], stats["backup.failures"]) == (1, 0)
    assert stats["backup.last_ok_age_s"] < 60
    assert hub.sigterm() == 0
    assert run_command("verify-backup", tmp_path / "backups").returncode == 0


def test_a_backup_that_fails_is_an_error_line_and_a_counter(hubs, tmp_path):
    HubTools().provision(tmp_path / "data", ["WD1"])
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "holiday.jpg").write_bytes(b"not a backup")
    hub = hubs(settings={"backup.directory": str(tmp_path / "backups"), "backup.at": "03:30"})
    eventually(lambda: hub.stats()["backup.failures"] == 1)
    stats = hub.stats()
    assert (stats["backup.failing"], stats["backup.last_ok_age_s"]) == (1, -1)
    assert hub.sigterm() == 0
    words = hub.last_words()
    assert "ERROR" in words
    assert "holds something that is no backup" in words


def test_a_hub_that_stops_ends_the_backup_it_makes(hubs, tmp_path):
    from tests.app.stores.backup.data import fill_series

    HubTools().provision(tmp_path / "data", ["WD1"])
    fill_series(tmp_path / "data", files=40, rows=20_000)
    hub = hubs(settings={"backup.directory": str(tmp_path / "backups"), "backup.at": "03:30"})
    eventually(lambda: hub.stats()["backup.running"] == 1)
    began = time.monotonic()
    assert hub.sigterm() == 0
    assert time.monotonic() - began < 30
    # Whatever it had got to, the next one is whole.
    backup(tmp_path)
    assert run_command("verify-backup", tmp_path / "backups").returncode == 0
