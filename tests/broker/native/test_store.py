"""The store on a disk that fails for a while."""

from __future__ import annotations

import sqlite3

from broker.native import sqlite_store
from broker.native.sqlite_store import SqliteStore
from tests.helpers.mqtt_peer import running_broker, until


async def test_a_disk_that_fails_is_said_once_and_nothing_is_lost(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_store, "_RETRY_S", 0.01)
    write = SqliteStore._write
    fails = True

    def failing(self, writes):
        if fails:
            raise sqlite3.OperationalError("disk I/O error")
        write(self, writes)

    monkeypatch.setattr(SqliteStore, "_write", failing)
    async with running_broker(data_dir=tmp_path) as run:
        run.broker.publish("a", b"1", retain=True)
        await until(lambda: run.count("persistence_errors") > 3)
        run.broker.publish("b", b"2", retain=True)
        client = await run.client("c", clean_start=False)
        await client.subscribe(("x", 1))
        fails = False
        await until(lambda: "written again" in caplog.text)
    async with running_broker(data_dir=tmp_path) as run:
        assert (run.count("retained_messages"), run.count("sessions")) == (2, 1)

    assert caplog.text.count("can not be written") == 1


async def test_what_can_not_be_written_at_the_stop_is_an_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_store, "_RETRY_S", 0.01)
    monkeypatch.setattr(sqlite_store, "_CLOSE_S", 0.05)

    def failing(self, writes):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteStore, "_write", failing)
    async with running_broker(data_dir=tmp_path) as run:
        run.broker.publish("a", b"1", retain=True)

    assert "1 changes of sessions and retained messages could not be written" in caplog.text
