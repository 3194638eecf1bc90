"""The doctor on sound and on damaged directories: each damage is found, named and left as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import sqlite3
import time

import numpy as np
import pytest

from app.api.problems import status_of
from app.domain.settings import Settings
from app.hub import certificates
from app.hub.bench_tools import HubTools
from app.hub.certificates import LocalAuthority
from app.hub.data_directory import DataDirectory, HubLock
from app.hub.doctor import clock, patient, ports, software
from app.hub.doctor.examination import Doctor, DoctorIsBusy, examine
from app.hub.doctor.patient import patient_of
from app.ingest.quarantine import Quarantine
from app.protocol.api.doctor import FindingState
from app.protocol.hub_file import HubFile, encode_hub_file
from app.stores.journal.journal import Journal
from app.stores.series.schema import INGESTED
from tests.e2e.conftest import run_command
from tests.helpers.raw_rows import raw_row, raw_table

OK, WARNING, FAILED, UNKNOWN = FindingState
# Ports that are never in anybody's way.
SETTINGS = "[listen]\nmqtt_port = 0\nmqtts_port = 0\noperators_port = 0\napi_port = 0\n"


def journal_rows(time_us, count=50):
    return raw_table([raw_row(7, time_us + number * 1_000_000, seq=number) for number in range(count)])


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A directory that was in use, made once."""
    root = tmp_path_factory.mktemp("doctor") / "template"
    directory = DataDirectory(root)
    directory.make()
    HubTools().provision_fleet(root, 3, days=1)
    journal = Journal.open(directory.journal, INGESTED)
    now_us = time.time_ns() // 1000
    for number in range(3):
        for batch in journal_rows(now_us - 600_000_000 + number * 50_000_000).combine_chunks().to_batches():
            journal.append("raw", batch)
        journal.sync()
        journal.seal()
    journal.close()
    quarantine = Quarantine(directory.quarantine, 10)
    quarantine.put(now_us, "WD1", "tele", "empty", "", b"")
    quarantine.store(quarantine.take_pending())
    LocalAuthority(directory.tls).ensure()
    (root / "wattdeck.toml").write_text(SETTINGS)
    return root


@pytest.fixture
def data(template, tmp_path):
    shutil.copytree(template, tmp_path / "data")
    (tmp_path / "data").chmod(0o700)
    return DataDirectory(tmp_path / "data")


def everything(root):
    """Every file with its bytes and mode."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*"))
    }


def findings(directory, **options):
    return {finding.check: finding for finding in examine(patient_of(directory, **options)).findings}


def the_only_failure(directory):
    """The failed finding; the command says it with exit code 1 and without a traceback."""
    report = examine(patient_of(directory))
    failures = [finding for finding in report.findings if finding.state is FAILED]
    assert len(failures) == 1, failures
    assert failures[0].advice
    assert report.state is FAILED
    before = everything(directory.root)
    done = run_command("doctor", "--data", directory.root)
    assert everything(directory.root) == before, "nothing is changed"
    assert done.returncode == 1
    assert f"FAILED   {failures[0].check}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr == ""
    return failures[0]


def test_a_sound_directory_is_said_to_be_and_stays_as_it_is(data):
    before = everything(data.root)
    done = run_command("doctor", "--data", data.root, "--json")
    report = json.loads(done.stdout)

    assert done.returncode == 0, done.stdout
    assert [one for one in report["findings"] if one["state"] == "failed"] == []
    found = {one["check"]: one for one in report["findings"]}
    assert found["registry"]["measured"].endswith("3 modules")
    assert found["journal"]["measured"].startswith("3 segments")
    rows = int(re.search(r"([0-9,]+) rows", found["series"]["measured"])[1].replace(",", ""))
    assert 80_000 < rows <= 86_400
    assert found["database.quarantine"]["state"] == "ok"
    assert found["tls.ca"]["state"] == "ok"
    assert found["hub"]["measured"] == "none runs on this directory"
    assert everything(data.root) == before


def test_a_directory_that_is_not_there_yet_is_not_made(tmp_path):
    found = findings(DataDirectory(tmp_path / "none" / "yet"), settings=Settings())

    assert found["data"].state is OK
    assert not (tmp_path / "none").exists()


def test_it_can_not_run_on_a_file(tmp_path):
    (tmp_path / "data").write_text("")
    done = run_command("doctor", "--data", tmp_path / "data")

    assert done.returncode == 2
    assert "no directory" in done.stderr


def flip(path, at):
    data = bytearray(path.read_bytes())
    at = at if at >= 0 else len(data) + at
    for number in range(at, min(at + 40, len(data))):
        data[number] ^= 0xFF
    path.write_bytes(data)


def test_a_damaged_registry(data):
    size = data.registry.stat().st_size
    for at in range(4096, size, 4096):
        flip(data.registry, at)

    assert the_only_failure(data).check == "registry"


@pytest.mark.parametrize("content", [b"", b"hello" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_registry_that_is_none(data, content):
    data.registry.write_bytes(content)

    assert the_only_failure(data).check == "registry"


def test_a_registry_of_a_newer_program(data):
    with contextlib.closing(sqlite3.connect(data.registry)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")

    assert "install the newer one" in the_only_failure(data).advice


def test_a_registry_of_an_older_program_is_a_warning(data):
    with contextlib.closing(sqlite3.connect(data.registry)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")

    assert findings(data)["registry"].state is WARNING


def test_a_damaged_quarantine(data):
    data.quarantine.write_bytes(b"nothing of the kind" * 500)

    assert the_only_failure(data).check == "database.quarantine"


def newest_data_file(data):
    return max((data.series / "raw").glob("l*.parquet"))


def test_a_data_file_that_is_gone(data):
    newest_data_file(data).unlink()

    found = the_only_failure(data)
    assert found.check == "series.raw"


def test_a_data_file_that_is_cut(data):
    path = newest_data_file(data)
    os.truncate(path, path.stat().st_size - 100)

    assert the_only_failure(data).check == "series.raw"


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 300])
def test_a_torn_log_entry(data, content):
    max((data.series / "raw" / "_delta_log").glob("*.json")).write_bytes(content)

    assert the_only_failure(data).check == "series.raw"


def test_a_log_without_its_beginning(data):
    log = data.series / "raw" / "_delta_log"
    for path in [*log.glob("*.checkpoint.parquet"), min(log.glob("*.json"))]:
        path.unlink()

    assert the_only_failure(data).check == "series.raw"


def test_data_files_without_a_log(data):
    shutil.rmtree(data.series / "raw" / "_delta_log")

    assert "no log" in the_only_failure(data).measured


def test_a_damaged_segment(data):
    segments = sorted(data.journal.glob("*.wal"))
    flip(segments[0], segments[0].stat().st_size // 2)

    assert segments[0].name in the_only_failure(data).measured


def test_a_segment_without_a_header(data):
    flip(min(data.journal.glob("*.wal")), 0)

    assert the_only_failure(data).check == "journal"


def test_what_a_crash_leaves_at_a_journals_end_is_no_damage(data):
    newest = max(data.journal.glob("*.wal"))
    os.truncate(newest, newest.stat().st_size - 200)
    (data.journal / f"{99:020d}.wal").write_bytes(b"")

    assert findings(data)["journal"].state is OK


def test_bytes_that_were_set_aside_are_a_warning(data):
    (data.journal / "damaged").mkdir()
    (data.journal / "damaged" / "1.bin").write_bytes(b"x")

    assert findings(data)["journal.damaged"].state is WARNING


def test_a_directory_that_others_may_read(data):
    data.root.chmod(0o755)

    assert "chmod 700" in the_only_failure(data).advice


def test_a_key_that_others_may_read(data):
    (data.tls / "ca.key").chmod(0o644)
    found = findings(data)

    assert found["tls.key_permissions"].state is FAILED
    assert found["data.permissions"].state is WARNING


def test_a_settings_file_that_is_not_valid(data):
    (data.root / "wattdeck.toml").write_text(SETTINGS + "[ingest]\ncommit_ms = 'soon'\n")
    found = findings(data)

    assert found["settings"].state is FAILED
    assert "ingest.commit_ms" in found["settings"].measured
    assert found["registry"].state is OK, "the rest is looked at all the same"


def test_certificates_that_end_and_lack_names(data):
    then = dt.datetime.now(dt.UTC) - dt.timedelta(days=certificates.SERVER_DAYS - 10)
    shutil.rmtree(data.tls)
    LocalAuthority(data.tls, now=lambda: max(then, certificates.CLOCK_BEGINS), names=lambda: ["localhost"]).ensure()
    found = findings(data)
    assert found["tls.names"].state is WARNING
    assert "127.0.0.1" in found["tls.names"].measured

    ended = certificates.CLOCK_BEGINS
    server = clock_moved(data, ended + dt.timedelta(days=certificates.SERVER_DAYS + 5))
    assert server["tls.server"].state is FAILED
    soon = clock_moved(data, ended + dt.timedelta(days=certificates.SERVER_DAYS - 15))
    assert soon["tls.server"].state is WARNING
    assert clock_moved(data, ended + dt.timedelta(days=certificates.CA_DAYS + 5))["tls.ca"].state is FAILED


def clock_moved(data, now):
    from app.hub.doctor import tls_files

    class Later(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    with pytest.MonkeyPatch.context() as patch:
        # The folder is made anew under a clock that began on the first day.
        shutil.rmtree(data.tls)
        LocalAuthority(data.tls, now=lambda: certificates.CLOCK_BEGINS + dt.timedelta(days=1)).ensure()
        patch.setattr(tls_files.dt, "datetime", Later)
        return {finding.check: finding for finding in tls_files.check_certificates(patient_of(data))}


def test_a_key_of_another_certificate(data):
    other = data.root / "other"
    LocalAuthority(other).ensure()
    (other / "ca.key").replace(data.tls / "ca.key")
    shutil.rmtree(other)

    assert the_only_failure(data).check == "tls.ca_key"


def test_the_utilitys_own_certificate_that_is_not_there(data):
    (data.root / "wattdeck.toml").write_text(SETTINGS + "[tls]\ncertificate = '/no.pem'\nkey = '/no.key'\n")

    found = examine(patient_of(data))
    assert next(one.check for one in found.findings if one.state is FAILED) == "tls.server"


def test_a_clock_behind_what_is_stored(data):
    journal = Journal.open(data.journal, INGESTED)
    for batch in journal_rows(time.time_ns() // 1000 + 3_600_000_000).combine_chunks().to_batches():
        journal.append("raw", batch)
    journal.close()

    found = the_only_failure(data)
    assert found.check == "clock.stored"
    assert "61 min" in found.measured or "60 min" in found.measured


def test_a_clock_that_is_set_meanwhile(data):
    found = patient_of(data)
    wall, steady = found.began
    moved = patient.dataclasses.replace(found, began=(wall - 5, steady))

    assert clock.check_steadiness(moved).state is WARNING
    assert clock.check_steadiness(found).state is OK


@pytest.mark.parametrize(("said", "state"), [(True, OK), (False, WARNING), (None, UNKNOWN)])
def test_synchronisation_is_never_guessed(monkeypatch, data, said, state):
    monkeypatch.setattr(clock, "kernel_says_synchronised", lambda: said)
    monkeypatch.setattr(clock.shutil, "which", lambda _name: None)

    assert findings(data)["clock.synchronised"].state is state


def test_what_the_kernel_says_agrees_with_itself():
    assert clock.kernel_says_synchronised() == clock.kernel_says_synchronised()


def test_a_taken_port_is_named_with_who_has_it(data):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (data.root / "wattdeck.toml").write_text(SETTINGS.replace("api_port = 0", f"api_port = {port}"))
        found = the_only_failure(data)
        assert found.check == "ports.api"
        assert f"process {os.getpid()}" in found.measured
        gives_way = ports._free("mqtts", ["127.0.0.1"], port, gives_way=True, key="listen.mqtts_port")
        assert gives_way.state is WARNING


def test_a_hub_that_holds_the_directory_and_is_silent(data):
    lock = HubLock(data)
    lock.take()
    try:
        assert findings(data)["hub"].state is WARNING
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
        data.status.write_bytes(encode_hub_file(HubFile(os.getpid(), {"api": ("127.0.0.1", port)})))
        found = findings(data)
        assert (found["hub"].state, found["ports.api"].state) == (FAILED, FAILED)
    finally:
        lock.release()


def test_known_bad_versions():
    def judged(version, python):
        return [one.state for one in software.bad_versions({"PySide6-Essentials": version}, python)]

    assert judged("6.12.0", (3, 11)) == [FAILED]
    assert judged("6.12.0", (3, 13)) == []
    assert judged("6.11.3", (3, 11)) == []
    assert judged("6.12.1", (3, 11)) == []
    assert judged(None, (3, 11)) == []


def test_little_room_is_said(data, monkeypatch):
    usage = shutil.disk_usage(data.root)
    for free_mb, state in ((100, FAILED), (300, WARNING), (5000, OK)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free_mb: usage._replace(free=free * 1_000_000))
        assert findings(data)["disk.free"].state is state


def test_a_disk_in_memory_is_said(tmp_path):
    if not os.path.ismount("/dev/shm"):
        pytest.skip("no file system in memory here")
    root = DataDirectory(type(tmp_path)("/dev/shm") / f"wattdeck-doctor-{os.getpid()}")

    assert findings(root, settings=Settings())["disk.type"].state is WARNING


def test_a_check_that_fails_by_our_fault_is_a_finding(data, caplog):
    def broken(_patient):
        yield patient.ok("first", "fine")
        raise ZeroDivisionError("oh")

    with caplog.at_level(logging.CRITICAL):
        report = examine(
            patient_of(data), (("broken", broken), ("next", lambda _patient: iter([patient.ok("next", "")])))
        )

    assert [(one.check, one.state) for one in report.findings] == [
        ("first", OK),
        ("broken", FAILED),
        ("next", OK),
    ]
    assert "ZeroDivisionError" in report.findings[1].measured


def test_one_examination_at_a_time(data):
    inside = []

    def again():
        with pytest.raises(DoctorIsBusy) as busy:
            doctor.examine()
        inside.append(status_of(busy.value))
        return patient_of(data)

    doctor = Doctor(again)
    assert doctor.examine().findings
    assert inside == [429]
    assert doctor.examine().findings, "and then the next"


def test_numbers_in_the_report_are_plain(data):
    report = examine(patient_of(data))
    assert report.took_ms > 0
    assert abs(report.at_us - time.time_ns() // 1000) < 60_000_000
    assert np.isfinite(report.took_ms)


def test_with_an_external_broker_the_modules_ports_are_not_ours():
    settings = Settings()
    external = dataclasses.replace(settings, hub=dataclasses.replace(settings.hub, engine="external"))

    assert [name for name, *_ in ports._wanted(settings)] == ["mqtt", "mqtts", "operators", "api"]
    assert [name for name, *_ in ports._wanted(external)] == ["operators", "api"]
