"""The whole document fuzzed: no fault of ours, and no answer that the document does not describe."""

from __future__ import annotations

import asyncio
import secrets

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks as openapi_checks

from app.domain.credentials import hash_secret
from app.domain.people import Principal, Role, Scope

# Ends the hub that the other requests need; it has tests of its own.
LEFT_OUT = {"/v1/hub/stop"}
CHECKS = [
    not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]
EXAMPLES = 25
# By hand for a longer hunt: more examples, other seeds.
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_no_request_gets_an_answer_that_is_not_described(trial, mode):
    load_all_checks()
    host, port = trial.hub.addresses["api"]
    async with trial.anonymous() as client:
        document = (await client.get("/schema/openapi.json")).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://{host}:{port}")
    loop = asyncio.get_running_loop()

    async def let_in() -> str:
        token = secrets.token_urlsafe(32)
        # Every scope at once, which no role has.
        principal = Principal("fuzz", frozenset(Scope), role=Role.ADMIN)
        trial.hub.platform.tokens.put(hash_secret(token), principal, None)
        return token

    def fuzz() -> list[str]:
        found = []
        for result in schema.get_all_operations():
            operation = result.ok()
            # What takes nothing can not be asked wrongly.
            takes_something = operation.body or any(True for _parameter in operation.iter_parameters())
            if operation.path in LEFT_OUT or (mode is GenerationMode.NEGATIVE and not takes_something):
                continue

            @SETTINGS
            @given(case=operation.as_strategy(generation_mode=mode))
            def try_it(case):
                token = asyncio.run_coroutine_threadsafe(let_in(), loop).result(10)
                headers = {"Authorization": f"Bearer {token}"}
                if "Wattdeck-Purpose" not in (case.headers or {}):
                    headers["Wattdeck-Purpose"] = "test"
                case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)

            try:
                try_it()
            except Exception as error:  # noqa: BLE001 - every operation is tried, whatever the others do
                found.append(f"{operation.label}: {error!s:.1500}")
        return found

    assert await asyncio.to_thread(fuzz) == []
