"""The gate, the handshake and the form of errors, over real HTTP."""

from __future__ import annotations

import pytest

from app.domain.people import Role


async def test_health_and_version_need_no_login(trial):
    async with trial.anonymous() as client:
        health = await client.get("/v1/health")
        version = await client.get("/v1/version")

    assert health.json()["ready"] is True
    assert version.json()["api_major"] == 1
    assert version.headers["wattdeck-api"].startswith("1.")


async def test_without_a_token_the_answer_is_a_problem_document(trial):
    async with trial.anonymous() as client:
        answer = await client.get("/v1/statistics")

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:wattdeck:problem:not-logged-in"


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_may_see_the_statistics(trial, role):
    answer = await (await trial.client(role)).get("/v1/statistics")

    assert answer.status_code == 200
    assert "ingest.received" in answer.json()


async def test_a_console_of_another_major_version_is_refused(trial):
    async with trial.anonymous({"Wattdeck-Api": "9.0"}) as client:
        answer = await client.get("/v1/health")

    assert answer.status_code == 422
    assert "version 1" in answer.json()["detail"]


async def test_an_unknown_path_is_a_problem_document_too(trial):
    async with trial.anonymous() as client:
        answer = await client.get("/v1/nothing")

    assert (answer.status_code, answer.json()["status"]) == (404, 404)


async def test_the_document_describes_every_route(trial):
    async with trial.anonymous() as client:
        answer = await client.get("/schema/openapi.json")

    assert "/v1/statistics" in answer.json()["paths"]
