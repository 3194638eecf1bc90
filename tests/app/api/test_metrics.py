"""Metrics as Prometheus reads them."""

from __future__ import annotations

import contextlib
import dataclasses
import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.domain.people import Role
from app.domain.settings import ApiSettings
from app.hub.configuration import SettingError, load_settings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.services.metrics import METRICS, Kind, exposition, row_of
from tests.app.api.conftest import SETTINGS

# Prometheus' rules: the unit in full, and in base units.
NOT_A_BASE_UNIT = re.compile(r"_(ms|us|s|mb|kb|percent)(_total)?$")


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


async def test_each_statistic_appears_once_with_help_and_type(trial):
    client = await trial.client(Role.VIEWER)
    answer = await client.get("/metrics")
    statistics = trial.hub.statistics()
    found = families(answer.text)
    samples = [sample for family in found.values() for sample in family.samples]

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert [name for name in statistics if row_of(name) is None] == [], "a row in METRICS for each"
    assert len(samples) == len(statistics) + 1
    assert len({(sample.name, tuple(sample.labels.items())) for sample in samples}) == len(samples)
    for family in found.values():
        assert family.documentation
        assert family.type in {"counter", "gauge"}, family.name
        assert not NOT_A_BASE_UNIT.search(family.name), family.name
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
    assert found["wattdeck_hub_info"].samples[0].labels["version"]
    assert found["wattdeck_modules_known"].samples[0].value == 0


def test_units_types_and_labels():
    found = families(
        exposition(
            {
                "commit.longest_commit_ms": 250.0,
                "serial.frame_age_s": 3.0,
                'refused.ver"sion\n': 2,
                "refused.empty": 1,
                "api.requests_2xx": 7,
                "journal.bytes_written": 10,
                "broker.connections": 4,
                "new.thing": 1,
            },
            "1.2.3",
        ).decode()
    )

    def value(name, **labels):
        (family,) = [family for family in found.values() if any(s.name == name for s in family.samples)]
        return next(s.value for s in family.samples if s.labels == labels)

    assert value("wattdeck_commit_longest_seconds") == 0.25
    assert value("wattdeck_serial_frame_age_seconds") == 3
    assert value("wattdeck_refused_messages_total", reason="empty") == 1
    assert value("wattdeck_refused_messages_total", reason='ver"sion\n') == 2
    assert value("wattdeck_api_requests_total", status="2xx") == 7
    assert value("wattdeck_journal_written_bytes_total") == 10
    assert found["wattdeck_broker_connections"].type == "gauge"
    assert found["wattdeck_new_thing"].type == "unknown"


def test_the_table_has_no_row_that_another_hides():
    for number, row in enumerate(METRICS):
        assert row_of(row.name.replace("*", "x")) is row, number
        assert row.kind in Kind


async def test_without_a_token_only_by_the_setting(trial, tmp_path):
    async with trial.anonymous() as client:
        assert (await client.get("/metrics")).status_code == 401

    directory = DataDirectory(tmp_path / "open")
    directory.make()
    settings = dataclasses.replace(SETTINGS, api=ApiSettings(metrics_open=True))
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, settings))
        client = await stack.enter_async_context(httpx.AsyncClient())
        host, port = hub.addresses["api"]
        assert (await client.get(f"http://{host}:{port}/metrics")).status_code == 200
        assert (await client.get(f"http://{host}:{port}/v1/statistics")).status_code == 401


def test_the_setting_is_for_loopback_alone(tmp_path):
    with pytest.raises(SettingError, match="this machine alone"):
        load_settings(tmp_path, environment={}, assignments=["api.metrics_open=true", "listen.api_host=0.0.0.0"])
    assert load_settings(tmp_path, environment={}, assignments=["api.metrics_open=true"]).api.metrics_open
