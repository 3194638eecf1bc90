"""Jobs over HTTP on a hub that holds readings: exports hold what was sent, for who may have it, as long as it is kept."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.credentials import hash_secret
from app.domain.keys import CollectionLevel
from app.domain.people import ROLE_SCOPES, Principal, Role, Scope
from app.domain.resolution import DAY_US, Resolution
from app.services.jobs import context as context_module
from app.services.jobs import parquet_file
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry, wall_clock_us
from app.stores.series import copying
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.series.rollup import NoFacts
from tests.app.api.test_readings import COUNT, stored  # noqa: F401 - a fixture
from tests.helpers.raw_rows import raw_table, second_row

WAIT_S = 60


@pytest.fixture
async def admin(stored):  # noqa: F811
    return await stored.client()


def wanted(trial, **more):
    span = {"start_us": trial.start_us, "end_us": trial.start_us + COUNT * 1_000_000, "modules": ["WD-1"]}
    return {"kind": "export", "parameters": span | more}


async def finished(client, answer):
    assert answer.status_code == 201, answer.text
    path = f"/v1/jobs/{answer.json()['id']}"
    async with asyncio.timeout(WAIT_S):
        while True:
            job = (await client.get(path)).json()
            if job["state"] not in ("queued", "running"):
                return job


async def exported(trial, client, **more):
    job = await finished(client, await client.post("/v1/jobs", json=wanted(trial, **more)))
    assert job["state"] == "done", job["message"]
    answer = await client.get(f"/v1/jobs/{job['id']}/result")
    assert answer.status_code == 200, answer.text
    return answer


async def test_an_export_is_what_the_api_answers(stored, admin):  # noqa: F811
    file = await exported(stored, admin)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(file.content).decode())))
    assert "attachment" in file.headers["content-disposition"]
    assert ".csv.gz" in file.headers["content-disposition"]

    query = {"from_us": stored.start_us, "to_us": stored.start_us + COUNT * 1_000_000}
    asked = (await admin.get("/v1/modules/WD-1/readings.csv", params=query)).text
    expected = list(csv.DictReader(io.StringIO(asked)))
    assert len(rows) == len(expected) == COUNT - 10
    assert [row["seq"] for row in rows] == [row["seq"] for row in expected]
    assert [row["drawn_wh"] for row in rows] == [row["drawn_wh"] for row in expected]
    assert {(row["serial"], row["channel"], row["power_kind"]) for row in rows} == {("WD-1", "1", "VA")}
    assert "key" not in rows[0]

    stream = pa.ipc.open_stream((await exported(stored, admin, format="arrow")).content).read_all()
    assert stream.num_rows == COUNT - 10
    assert stream["seq"].to_pylist() == [int(row["seq"]) for row in rows]


@pytest.mark.parametrize("resolution", ["raw", "10m"])
async def test_parquet_has_the_rows_and_units_of_the_arrow_file(stored, admin, resolution, monkeypatch):  # noqa: F811
    monkeypatch.setattr(parquet_file, "_GROUP_ROWS", 3_000)
    wide = {"start_us": stored.start_us - DAY_US, "end_us": stored.start_us + DAY_US, "resolution": resolution}
    arrow = pa.ipc.open_stream((await exported(stored, admin, format="arrow", **wide)).content).read_all()
    file = await exported(stored, admin, format="parquet", **wide)
    assert file.headers["content-disposition"].endswith('.parquet"')
    with pq.ParquetFile(io.BytesIO(file.content)) as parquet:
        table = parquet.read()
        groups = parquet.metadata.num_row_groups
        compression = parquet.metadata.row_group(0).column(0).compression
        time_type = parquet.schema.column(parquet.schema_arrow.get_field_index("time")).logical_type

    # What is expected of a bucket that is not over grows from one export to the next.
    assert table.cast(arrow.schema).slice(0, arrow.num_rows - 1).equals(arrow.slice(0, arrow.num_rows - 1))
    assert table.num_rows == (COUNT - 10 if resolution == "raw" else arrow.num_rows) > 0
    assert groups == (3 if resolution == "raw" else 1)
    assert compression == "ZSTD"
    assert json.loads(time_type.to_json()) | {"isAdjustedToUTC": True, "timeUnit": "microseconds"} == json.loads(
        time_type.to_json()
    )
    units = json.loads(table.schema.metadata[b"wattdeck.units"])
    assert units["time"] == "UTC, microseconds since 1970"
    assert units["drawn_wh"] == table.schema.field("drawn_wh").metadata[b"unit"].decode() == "Wh"
    assert (units["power"] == "W or VA, as power_kind says") if resolution == "raw" else (units["va_mean"] == "VA")
    assert "serial" not in units
    assert sorted(path.suffix for path in stored.directory.jobs.iterdir()) == [".arrows", ".parquet"], (
        "no spool is left"
    )


@pytest.mark.parametrize("resolution", ["10m", "1h", "1d"])
async def test_buckets_are_those_the_api_answers(stored, admin, resolution):  # noqa: F811
    wide = {"start_us": stored.start_us - 3 * DAY_US, "end_us": stored.start_us + 10 * DAY_US}
    file = await exported(stored, admin, resolution=resolution, format="arrow", **wide)
    table = pa.ipc.open_stream(file.content).read_all()

    query = {"from_us": wide["start_us"], "to_us": wide["end_us"], "every": resolution}
    asked = pa.ipc.open_stream((await admin.get("/v1/modules/WD-1/readings.arrow", params=query)).content).read_all()
    assert table["drawn_wh"].to_pylist() == asked["drawn_wh"].to_pylist()
    assert sum(table["received"].to_pylist()) == COUNT - 10
    assert sum(table["drawn_wh"].to_pylist()) == COUNT - 1


async def test_a_city_is_exported_as_far_as_the_module_was_there(stored, admin, registry_of):  # noqa: F811
    half = stored.start_us + COUNT // 2 * 1_000_000
    (paris,) = registry_of.add_sites([NewSite("Paris")])
    registry_of.unpair("WD-1", 1, half, level=CollectionLevel.SECOND)
    registry_of.pair("WD-1", 1, half + 1, PairedAs(paris, CollectionLevel.SECOND))

    lyon = await exported(stored, admin, modules=[], city="Lyon", format="arrow")
    rows = pa.ipc.open_stream(lyon.content).read_all()
    assert max(rows["seq"].to_pylist()) == COUNT // 2 - 1
    assert rows.num_rows == COUNT // 2 - 10


@pytest.fixture
def registry_of(stored):  # noqa: F811
    with Registry.open(stored.directory.registry) as registry:
        yield registry


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"modules": ["WD-9"]}, "no module WD-9"),
        ({"modules": []}, "name modules, or a city, or a tag"),
        ({"city": "Lyon"}, "one of these"),
        ({"modules": [], "city": "Atlantis"}, "no module is in this city"),
        ({"modules": [], "tag": "\0"}, "no module is in this tag"),
        ({"end_us": 0}, "before its end"),
        ({"start_us": 2**60}, "parameters"),
        ({"format": "xls"}, "parameters"),
        ({"series": 1}, "parameters"),
        ({"modules": [7]}, "parameters"),
    ],
)
async def test_what_can_not_be_exported_is_said(stored, admin, parameters, words):  # noqa: F811
    answer = await admin.post("/v1/jobs", json=wanted(stored, **parameters))

    assert answer.status_code in (404, 422), answer.text
    assert words in answer.json()["detail"]


async def test_rights_and_purpose_are_those_of_the_kind(stored, admin):  # noqa: F811
    unpurposed = await stored.client(Role.SUPPORT, purpose=None)
    answer = await unpurposed.post("/v1/jobs", json=wanted(stored))
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:wattdeck:problem:purpose-needed")
    assert (await unpurposed.get("/v1/jobs")).json()["total"] == 0, "nothing was started"

    stored.hub.platform.tokens.put(hash_secret("t" * 43), Principal("token:x", frozenset({Scope.JOBS})), None)
    async with stored.anonymous({"Authorization": "Bearer " + "t" * 43, "Wattdeck-Purpose": "test"}) as weak:
        answer = await weak.post("/v1/jobs", json=wanted(stored))
        assert answer.status_code == 403
        assert "readings:read" in answer.json()["detail"]
        answer = await weak.post("/v1/jobs", json={"kind": "import", "parameters": {"folder": "x"}})
        assert answer.status_code == 403
    assert Scope.JOBS not in ROLE_SCOPES[Role.VIEWER]
    answer = await admin.post("/v1/jobs", json={"kind": "mining"})
    assert answer.status_code == 422
    assert {"export", "import", "recompute", "erasure", "backup"} <= set(re.findall(r"\w+", answer.json()["detail"]))


async def test_looks_are_noted_at_the_start_and_at_each_fetch(stored, admin, monkeypatch):  # noqa: F811
    noted = []
    log = stored.hub.platform.gate._log
    monkeypatch.setattr(log, "note", lambda who, why, subjects, what: noted.append((who.name, subjects, what)))
    file = await exported(stored, admin)

    job_id = str(file.request.url).split("/")[-2]
    assert noted == [
        ("test-admin", ["module:WD-1"], ("readings",)),
        ("test-admin", ["module:WD-1", f"job:{job_id}"], ("readings",)),
    ]
    unpurposed = await stored.client(Role.ADMIN, purpose=None)
    assert (await unpurposed.get(f"/v1/jobs/{job_id}/result")).status_code == 403


async def test_only_whose_it_is_and_administrators_see_a_job(stored, admin):  # noqa: F811
    support, technician = await stored.client(Role.SUPPORT), await stored.client(Role.TECHNICIAN)
    job = await finished(support, await support.post("/v1/jobs", json=wanted(stored)))
    path = f"/v1/jobs/{job['id']}"

    for method, url in [
        ("GET", path),
        ("GET", f"{path}/result"),
        ("POST", f"{path}/cancel"),
        ("DELETE", f"{path}/result"),
    ]:
        assert (await technician.request(method, url)).status_code == 404
    assert (await technician.get("/v1/jobs")).json()["total"] == 0
    assert (await admin.get("/v1/jobs")).json()["items"][0]["id"] == job["id"]
    assert (await admin.get(f"{path}/result")).status_code == 200
    assert job["result"]["size_bytes"] == len((await support.get(f"{path}/result")).content)


async def test_a_result_can_be_removed_once(stored, admin):  # noqa: F811
    job = await finished(admin, await admin.post("/v1/jobs", json=wanted(stored)))
    path = f"/v1/jobs/{job['id']}/result"

    assert (await admin.delete(path)).status_code == 204
    assert not list((stored.directory.jobs).iterdir())
    assert [(await admin.delete(path)).status_code, (await admin.get(path)).status_code] == [404, 404]
    assert "removed or its time is over" in (await admin.get(path)).json()["detail"]
    what = [one["what"] for one in (await admin.get("/v1/actions", params={"sort": "id"})).json()["items"]]
    assert what == ["operator.create", "job.start", "job.remove_result"]


async def test_a_result_whose_time_is_over_is_refused_then_removed(stored, admin):  # noqa: F811
    job = await finished(admin, await admin.post("/v1/jobs", json=wanted(stored)))
    jobs = stored.hub.platform.jobs
    clock = jobs._now_us
    assert not await asyncio.to_thread(jobs.tidy)
    assert (stored.directory.jobs / job["result"]["name"]).exists()

    jobs._now_us = jobs._table._now_us = lambda: clock() + 8 * DAY_US
    answer = await admin.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:wattdeck:problem:no-result")
    assert not await asyncio.to_thread(jobs.tidy)
    assert not list(stored.directory.jobs.iterdir())
    assert (await admin.get(f"/v1/jobs/{job['id']}")).json()["result"] is None

    jobs._now_us = lambda: clock() + 91 * DAY_US
    assert not await asyncio.to_thread(jobs.tidy)
    assert (await admin.get(f"/v1/jobs/{job['id']}")).status_code == 404


async def test_a_job_that_ended_can_not_be_cancelled(stored, admin):  # noqa: F811
    job = await finished(admin, await admin.post("/v1/jobs", json=wanted(stored)))

    answer = await admin.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, "done already" in answer.json()["detail"]) == (409, True)


async def test_a_copied_folder_is_taken_in_once(stored, admin):  # noqa: F811
    rows = [second_row(4711, second, start_us=stored.start_us) for second in range(500)]
    write_copy(stored.directory.imports / "copy-1", rows)

    for words in ("500 of 500", "0 of 500"):
        answer = await admin.post("/v1/jobs", json={"kind": "import", "parameters": {"folder": "copy-1"}})
        job = await finished(admin, answer)
        assert (job["state"], job["message"].startswith(words)) == ("done", True), job
    for folder in ("../series", "copy-2", ".", "", "x" * 101):
        answer = await admin.post("/v1/jobs", json={"kind": "import", "parameters": {"folder": folder}})
        assert answer.status_code == 422, folder


async def test_roll_ups_are_made_anew_for_who_may(stored, admin):  # noqa: F811
    span = {"start_us": stored.start_us - DAY_US, "end_us": stored.start_us + DAY_US}
    for parameters, status, words in [
        (span | {"modules": ["WD-9"]}, 404, "no module WD-9"),
        (span, 422, "name modules, or say all"),
        (span | {"modules": ["WD-1"], "all": True}, 422, "one of these"),
        ({"start_us": 5, "end_us": 5, "all": True}, 422, "before its end"),
        (span | {"all": True, "tiers": ["raw"]}, 422, "parameters"),
        (span | {"all": True, "tiers": []}, 422, "parameters"),
    ]:
        answer = await admin.post("/v1/jobs", json={"kind": "recompute", "parameters": parameters})
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), parameters
    support = await stored.client(Role.SUPPORT)
    wanted = {"kind": "recompute", "parameters": span | {"modules": ["WD-1"], "tiers": ["1d", "10m"]}}
    assert (await support.post("/v1/jobs", json=wanted)).status_code == 403

    before = await exported(stored, admin, resolution="10m", format="arrow", **span)
    async with asyncio.timeout(WAIT_S):
        # Upkeep closes the windows of two hours, one after the other.
        store = stored.hub.platform.path.store
        while store.done.get("rollup", 0) < 10:  # noqa: ASYNC110 - a thread of the hub does it
            await asyncio.sleep(0.1)
    job = await finished(admin, await admin.post("/v1/jobs", json=wanted))
    assert (job["state"], job["done"], job["total"]) == ("done", 2, 2)
    assert job["parameters"]["tiers"] == ["10m", "1d"], "finer first"
    assert int(job["message"].split()[0]) >= 9
    after = await exported(stored, admin, resolution="10m", format="arrow", **span)
    tables = [pa.ipc.open_stream(file.content).read_all().slice(0, 8) for file in (before, after)]
    assert tables[0].equals(tables[1])


async def test_an_import_that_is_cancelled_keeps_what_it_took_and_another_goes_on(stored, admin, monkeypatch):  # noqa: F811
    monkeypatch.setattr(copying, "_BATCH_ROWS", 100)
    monkeypatch.setattr(context_module, "SAVE_EACH_S", 0)
    rows = [second_row(4711, second, start_us=stored.start_us) for second in range(500)]
    write_copy(stored.directory.imports / "copy-1", rows)
    store, jobs, pieces = stored.hub.platform.path.store, stored.hub.platform.jobs, []
    real = store.copy_in_pieces

    def watched(folder, *, after=0):
        for piece in real(folder, after=after):
            pieces.append((after, piece.rows, piece.taken))
            if len(pieces) == 2:
                (job,) = [job for job in jobs.naming("copy-1") if not job[0].state.ended]
                jobs._runner.cancel(job[0].id)
            yield piece

    monkeypatch.setattr(store, "copy_in_pieces", watched)
    job = await finished(
        admin, await admin.post("/v1/jobs", json={"kind": "import", "parameters": {"folder": "copy-1"}})
    )
    assert (job["state"], job["done"], job["total"]) == ("cancelled", 200, 500)
    assert pieces == [(0, 100, 100), (0, 100, 100)]
    assert store.read(4711, 0, 2**60, Resolution.RAW).num_rows == 200

    job = await finished(
        admin, await admin.post("/v1/jobs", json={"kind": "import", "parameters": {"folder": "copy-1"}})
    )
    assert (job["state"], job["message"]) == ("done", "300 of 500 rows were new and have been taken in")
    assert pieces[2:] == [(0, 100, 0), (0, 100, 0), (0, 100, 100), (0, 100, 100), (0, 100, 100)]
    assert store.read(4711, 0, 2**60, Resolution.RAW).num_rows == 500
    assert [piece.rows for piece in real(stored.directory.imports / "copy-1", after=3)] == [100, 100]


def write_copy(folder, rows):
    """What SeriesStore.copy_out of another hub would have written."""
    store = DeltaSeriesStore(folder.parent.parent.parent / "elsewhere", facts=NoFacts, now_us=wall_clock_us)
    store.append(SegmentLabel("a" * 32, 0), {"raw": raw_table(rows)})
    store.copy_out(folder, 0, 2**60)
    store.close()
