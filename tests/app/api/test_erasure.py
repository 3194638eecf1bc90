"""Erasing over HTTP on a hub that had traffic of every sort: what is gone, what is left and why, and who may."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from app.domain.errors import EnvironmentFault
from app.domain.people import Role
from app.services.jobs import erasure as erasure_module
from app.stores.registry.person_keys import PersonKeys
from tests.app.api.test_data_map import MINUTES, held_by, lived  # noqa: F401 - a fixture
from tests.app.api.test_jobs import finished
from tests.e2e.clients import eventually


def wanted(subject):
    return {"kind": "erasure", "parameters": {"subject": subject}}


async def erased(client, subject):
    job = await finished(client, await client.post("/v1/jobs", json=wanted(subject)))
    assert job["state"] == "done", job
    file = (await client.get(f"/v1/jobs/{job['id']}/result")).json()
    return job, file


def by_place(file):
    return {row["place"]: row for row in file["receipt"]["places"]}


@pytest.mark.parametrize("tls", [False, True], ids=["no key", "own certificate"])
async def test_a_holder_who_left_is_gone_and_the_receipt_says_so(lived, tls):  # noqa: F811
    if not tls:
        (lived.directory.tls / "server.pem").unlink()
    admin = await lived.client()
    await asyncio.to_thread(eventually, lambda: not lived.path.tail.batches("raw"))
    subject = f"holder:{lived.old}"
    keys = (await asyncio.to_thread(lived.hub.platform.data_map.holder, lived.old)).ended_keys
    others = held_by(await admin.get(f"/v1/data-map/holders/{lived.new}"))
    job, file = await erased(admin, subject)
    receipt, rows = file["receipt"], by_place(file)

    assert job["message"].startswith(f"{sum(row['erased'] for row in rows.values())} things were erased, and")
    assert (receipt["subject"], receipt["asked_by"], receipt["job"]) == (subject, "test-admin", job["id"])
    assert receipt["still_found"] == []
    assert rows["series.raw"]["before"] >= rows["series.raw"]["erased"] - 2 > 30 * (MINUTES - 1)
    for place in ("series.raw", "series.ten_min", "registry.keys", "registry.holders", "registry.commands", "journal"):
        assert rows[place]["after"] == 0, place
    assert "somebody is still supplied there" in rows["registry.sites"]["why"]
    assert "legal duty" in rows["registry.access_log"]["why"]
    assert rows["registry.jobs"]["why"] == "who had it erased, and when"
    assert receipt["remembered"] == [subject]
    assert receipt["ended_us"] >= receipt["began_us"]

    body = json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert file["sha256"] == hashlib.sha256(body).hexdigest()
    if tls:
        certificate = x509.load_pem_x509_certificate(file["signature"]["certificate"].encode())
        signature = base64.b64decode(file["signature"]["value"])
        certificate.verify_directly_issued_by(
            x509.load_pem_x509_certificate((lived.directory.tls / "ca.crt").read_bytes())
        )
        certificate.public_key().verify(signature, body, ec.ECDSA(hashes.SHA256()))
    else:
        assert (file["signature"], file["signature_is"]) == (None, "not signed: no key of its own")

    # What the registry remembers for restored backups, and who had it done.
    remembered = {one.subject for one in PersonKeys(lived.path.registry).erasures()}
    assert remembered == {subject, *(f"key:{key}" for key in keys)}
    what = [
        (one["what"], one["subject"], one["actor"])
        for one in (await admin.get("/v1/actions", params={"sort": "id", "filter": f"subject:eq:{subject}"})).json()[
            "items"
        ]
    ]
    assert what == [("erasure.begin", subject, "test-admin"), ("erasure.end", subject, "test-admin")]

    # Nothing that says which key was whose is left in the job, and nobody else has lost anything.
    with lived.path.registry.reading() as connection:
        import sqlalchemy as sa

        row = connection.execute(sa.text("SELECT parameters, cursor FROM jobs WHERE id = :id"), {"id": job["id"]}).one()
    assert (json.loads(row.parameters), row.cursor) == ({"subject": subject}, None)
    after = held_by(await admin.get(f"/v1/data-map/holders/{lived.new}"))
    for name in ("registry.keys", "registry.sites", "quarantine", "broker.retained", "registry.commands"):
        assert after[name] == others[name], name
    answer = await admin.post("/v1/jobs", json=wanted(subject))
    assert answer.status_code == 404, "there is no such holder any more"


async def test_a_module_whose_supply_goes_on_keeps_that_and_it_is_told(lived):  # noqa: F811
    admin = await lived.client()
    job, file = await erased(admin, "module:WD1")
    rows = by_place(file)

    assert file["receipt"]["still_found"] == [], job
    assert "1 supply periods go on" in rows["registry.keys"]["why"]
    assert rows["registry.keys"]["after"] == 1
    assert "1 supply periods go on" in rows["series.raw"]["why"]
    assert rows["registry.pairings"]["why"] == rows["registry.keys"]["why"]
    for place in ("jobs.results", "quarantine", "broker.retained", "registry.commands", "registry.saved_views"):
        assert (rows[place]["after"], rows[place]["before"] > 0) == (0, True), place
    assert rows["registry.modules"]["after"] == 1
    assert "stays in the fleet" in rows["registry.modules"]["why"]
    # A module whose name begins alike is not touched.
    assert held_by(await admin.get("/v1/data-map/modules/WD10"))["jobs.results"] == 1

    # Again: the receipt of the first is not taken for data, and stays.
    _again, second = await erased(admin, "module:WD1")
    assert second["receipt"]["still_found"] == []
    assert by_place(second)["registry.jobs"]["after"] == 2
    assert (await admin.get(f"/v1/jobs/{job['id']}/result")).json() == file


async def test_what_is_found_again_is_said_plainly(lived, monkeypatch):  # noqa: F811
    """A place that says it has erased, and has not."""
    from app.domain.data_map import Erased

    data_map = lived.hub.platform.data_map
    real = data_map.erase

    def lying(place, subject):
        return Erased(3) if place == "registry.commands" else real(place, subject)

    monkeypatch.setattr(data_map, "erase", lying)
    job, file = await erased(await lived.client(), f"holder:{lived.old}")

    assert job["message"].startswith("NOT complete: still found at registry.commands;")
    assert file["receipt"]["still_found"] == ["registry.commands"]
    assert (by_place(file)["registry.commands"]["after"], by_place(file)["registry.commands"]["why"]) == (1, "")


async def test_a_store_that_fails_is_asked_again_and_nothing_is_forgotten_before(lived, monkeypatch):  # noqa: F811
    monkeypatch.setattr(erasure_module, "_AGAIN_S", 0)
    data_map = lived.hub.platform.data_map
    real, asked = data_map.erase, []

    def failing(place, subject):
        asked.append(place)
        if place == "series.raw" and (always or asked.count(place) < 3):
            raise EnvironmentFault("the disk is full")
        return real(place, subject)

    monkeypatch.setattr(data_map, "erase", failing)
    admin, always = await lived.client(), True
    job = await finished(admin, await admin.post("/v1/jobs", json=wanted(f"holder:{lived.old}")))
    assert job["state"] == "failed"
    assert "series.raw could not be erased: the disk is full" in job["message"]
    assert not any(place.startswith("registry.") for place in asked)

    asked.clear()
    always = False
    _job, file = await erased(admin, f"holder:{lived.old}")
    assert asked.count("series.raw") == 3
    assert by_place(file)["series.raw"]["after"] == 0


async def test_erasing_is_for_few_needs_a_purpose_and_is_noted(lived, monkeypatch):  # noqa: F811
    noted = []
    monkeypatch.setattr(
        lived.hub.platform.gate._log, "note", lambda who, why, subjects, what: noted.append((subjects, what))
    )
    admin = await lived.client()
    for subject, status in [
        ("module:NONE", 404),
        ("holder:c-nobody", 404),
        ("site:12", 422),
        ("module:", 422),
        ("module:\0", 422),
        ("module:" + "x" * 100, 422),
        ("WD1", 422),
    ]:
        assert (await admin.post("/v1/jobs", json=wanted(subject))).status_code == status, subject
    assert (await (await lived.client(Role.SUPPORT)).post("/v1/jobs", json=wanted("module:WD2"))).status_code == 403
    assert (await (await lived.client(purpose=None)).post("/v1/jobs", json=wanted("module:WD2"))).status_code == 403
    assert noted == []

    job, _file = await erased(admin, "module:WD2")
    assert noted == [(["module:WD2"], ("holdings",)), (["module:WD2", f"job:{job['id']}"], ("holdings",))]
