"""Who may connect where: the table of credentials against the listeners."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.credentials import CredentialKind, hash_secret, is_serial
from app.hub.authenticator import ANONYMOUS, LISTENERS, Audience, CredentialTable, RegistryAuthenticator, module_access
from app.protocol import topics
from app.stores.registry.records import CredentialRow
from app.stores.registry.registry import Registry
from broker.engine import Authenticator

SECRETS = {"WD-1": b"one", "WD-2": b"two", "gateway": b"gate", "console": b"con", "export": b"exp"}


def row(username: str, kind: CredentialKind, *, blocked: bool = False, secret: bytes | None = None) -> CredentialRow:
    patterns = () if kind is CredentialKind.MODULE else (f"{username}/#",)
    digest = hash_secret(SECRETS[username] if secret is None else secret)
    return CredentialRow(username, kind, digest, blocked, patterns, patterns)


ROWS = (
    row("WD-1", CredentialKind.MODULE),
    row("WD-2", CredentialKind.MODULE),
    row("gateway", CredentialKind.SOURCE),
    row("console", CredentialKind.OPERATOR),
    row("export", CredentialKind.SERVICE),
)


@pytest.fixture
def guard() -> RegistryAuthenticator:
    return RegistryAuthenticator(CredentialTable(ROWS))


@pytest.fixture
def open_guard() -> RegistryAuthenticator:
    return RegistryAuthenticator(CredentialTable(ROWS), allow_anonymous=True)


def test_it_is_what_an_engine_asks_for(guard: RegistryAuthenticator):
    engine_side: Authenticator = guard

    assert engine_side.authenticate("mqtt", "x", None, None) is None


class TestModules:
    def test_a_module_publishes_under_its_own_prefix_and_reads_its_commands(self, guard: RegistryAuthenticator):
        access = guard.authenticate("mqtts", "WD-1", "WD-1", b"one")

        assert access is not None
        assert (access.subject, access.kind) == ("WD-1", "module")
        assert access.subscribe == ("wd/v1/m/WD-1/cmd",)
        words = {pattern.removeprefix("wd/v1/m/WD-1/") for pattern in access.publish}
        assert words == {"tele", "state", "log", "diag", "fota", "ack"}

    @pytest.mark.parametrize("password", [None, b"", b"two", b"one ", b"ONE", b"x" * 65535])
    def test_a_wrong_secret_is_refused(self, guard: RegistryAuthenticator, password: bytes | None):
        assert guard.authenticate("mqtt", "WD-1", "WD-1", password) is None
        assert guard.refused == {"secret": 1}

    @pytest.mark.parametrize("client_id", ["WD-1", "WD-1/", "WD-1/second", "WD-1/a/b"])
    def test_a_client_id_is_the_serial_or_begins_with_it(self, guard: RegistryAuthenticator, client_id: str):
        assert guard.authenticate("mqtt", client_id, "WD-1", b"one") is not None

    @pytest.mark.parametrize("client_id", ["", "WD", "WD-2", "WD-2/x", "WD-12", "WD-1x", "wd-1", "/WD-1", "else"])
    def test_another_client_id_is_refused(self, guard: RegistryAuthenticator, client_id: str):
        assert guard.authenticate("mqtt", client_id, "WD-1", b"one") is None
        assert guard.refused == {"client_id": 1}

    def test_an_unknown_name_is_refused(self, guard: RegistryAuthenticator):
        assert guard.authenticate("mqtt", "WD-3", "WD-3", b"") is None
        assert guard.authenticate("mqtt", "x", None, None) is None
        assert guard.authenticate("mqtt", "x", "", b"") is None
        assert guard.refused == {"unknown": 3}

    def test_the_rights_are_those_of_the_protocol(self):
        access = module_access("WD-1")

        assert access.publish == topics.publish_patterns("WD-1")
        assert access.subscribe == topics.subscribe_patterns("WD-1")
        assert not set(access.publish) & set(access.subscribe)


@pytest.mark.parametrize("listener", ["mqtt", "mqtts", "operators", "unheard of"])
@pytest.mark.parametrize("username", list(SECRETS))
def test_each_kind_has_its_listeners(guard: RegistryAuthenticator, listener: str, username: str):
    modules_too = {"WD-1", "WD-2", "gateway", "export"}
    operators_too = {"console", "export"}
    allowed = {"mqtt": modules_too, "mqtts": modules_too, "operators": operators_too}.get(listener, set())

    access = guard.authenticate(listener, username, username, SECRETS[username])

    assert (access is not None) == (username in allowed)
    if access is not None:
        assert access.subject == username


class TestSessionsOfOthers:
    @pytest.mark.parametrize("client_id", ["WD-1", "WD-1/x"])
    @pytest.mark.parametrize("username", ["gateway", "export", "WD-2"])
    def test_nobody_takes_a_modules_session_over(self, guard: RegistryAuthenticator, client_id: str, username: str):
        assert guard.authenticate("mqtt", client_id, username, SECRETS[username]) is None
        assert guard.refused == {"client_id": 1}

    def test_not_even_anonymously(self, open_guard: RegistryAuthenticator):
        assert open_guard.authenticate("mqtt", "WD-1", None, None) is None
        assert open_guard.authenticate("mqtt", "WD-1", "somebody", b"x") is None


class TestAnonymous:
    @pytest.mark.parametrize(
        ("username", "password"), [(None, None), ("", b""), ("testuser", b"testpassword"), (None, b"x")]
    )
    def test_whoever_is_not_registered_may_do_everything(
        self, open_guard, username: str | None, password: bytes | None
    ):
        assert open_guard.authenticate("mqtt", "myclientid", username, password) is ANONYMOUS
        assert ANONYMOUS.publish == ANONYMOUS.subscribe == ("#",)

    def test_a_registered_name_needs_its_secret_all_the_same(self, open_guard: RegistryAuthenticator):
        assert open_guard.authenticate("mqtt", "WD-1", "WD-1", b"wrong") is None
        access = open_guard.authenticate("mqtt", "WD-1", "WD-1", b"one")
        assert access == module_access("WD-1")

    def test_never_on_the_operators_listener(self, open_guard: RegistryAuthenticator):
        assert open_guard.authenticate("operators", "x", None, None) is None
        assert open_guard.authenticate("operators", "x", "unknown", b"") is None
        assert open_guard.authenticate("elsewhere", "x", None, None) is None

    def test_a_blocked_name_is_not_anonymous(self):
        guard = RegistryAuthenticator(
            CredentialTable([row("WD-1", CredentialKind.MODULE, blocked=True)]), allow_anonymous=True
        )

        assert guard.authenticate("mqtt", "WD-1", "WD-1", b"one") is None
        assert guard.refused == {"blocked": 1}


class TestChanges:
    def test_a_blocked_credential_is_refused_and_its_sessions_end(self, guard: RegistryAuthenticator):
        assert guard.replace(["WD-1"], [row("WD-1", CredentialKind.MODULE, blocked=True)]) == ["WD-1"]
        assert guard.authenticate("mqtt", "WD-1", "WD-1", b"one") is None
        assert guard.authenticate("mqtt", "WD-2", "WD-2", b"two") is not None
        assert guard.replace(["WD-1"], [row("WD-1", CredentialKind.MODULE)]) == ["WD-1"]
        assert guard.authenticate("mqtt", "WD-1", "WD-1", b"one") is not None

    def test_sessions_end_only_where_something_changed(self, guard: RegistryAuthenticator):
        new = [
            row("WD-1", CredentialKind.MODULE),
            row("WD-2", CredentialKind.MODULE, secret=b"new"),
            row("WD-9", CredentialKind.MODULE, secret=b"nine"),
        ]

        assert guard.replace(["WD-1", "WD-2", "gateway", "WD-9"], new) == ["WD-2", "gateway"]
        assert guard.authenticate("mqtt", "WD-9", "WD-9", b"nine") is not None
        assert guard.authenticate("mqtt", "x", "gateway", b"gate") is None

    def test_another_table_is_taken_over_at_once(self, guard: RegistryAuthenticator):
        guard.use(CredentialTable())

        assert guard.authenticate("mqtt", "WD-1", "WD-1", b"one") is None

    def test_a_whole_new_table_says_whose_sessions_end(self, guard: RegistryAuthenticator):
        later = CredentialTable(
            [
                row("WD-1", CredentialKind.MODULE),
                row("WD-2", CredentialKind.MODULE, blocked=True),
                row("gateway", CredentialKind.SOURCE, secret=b"new"),
                row("console", CredentialKind.OPERATOR),
                row("new", CredentialKind.SERVICE, secret=b"new"),
            ]
        )

        assert sorted(guard.table.revoked_by(later)) == ["WD-2", "export", "gateway"]
        guard.use(later)
        assert guard.table.revoked_by(later) == []

    def test_used_names_are_handed_over_once(self, guard: RegistryAuthenticator):
        guard.authenticate("mqtt", "WD-1", "WD-1", b"one")
        guard.authenticate("mqtt", "WD-1", "WD-1", b"one")
        guard.authenticate("mqtt", "WD-2", "WD-2", b"wrong")

        assert guard.take_used() == {"WD-1"}
        assert guard.take_used() == frozenset()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(tmp_path / "registry.sqlite") as opened:
        yield opened


def test_what_the_registry_gave_opens_the_door(registry: Registry):
    """Provision, connect, block, rotate: the registry's rows and the table agree."""
    given = registry.provision_many([f"WD-{n}" for n in range(20)])
    secret = registry.add_credential("tasmota", CredentialKind.SOURCE, publish=["tele/#"], subscribe=["cmnd/#"])
    guard = RegistryAuthenticator(CredentialTable(registry.credential_rows()))

    for serial, username, own in given:
        access = guard.authenticate("mqtt", serial, username, own.encode())
        assert access == module_access(serial)
    source = guard.authenticate("mqtts", "any", "tasmota", secret.encode())
    assert source is not None
    assert (source.publish, source.subscribe) == (("tele/#",), ("cmnd/#",))

    registry.block("WD-3")
    new = registry.rotate_secret("WD-4")
    registry.remove_credential("tasmota")
    names = ["WD-3", "WD-4", "tasmota"]
    assert guard.replace(names, registry.credential_rows(names)) == names
    assert guard.authenticate("mqtt", "WD-3", "WD-3", given[3].secret.encode()) is None
    assert guard.authenticate("mqtt", "WD-4", "WD-4", given[4].secret.encode()) is None
    assert guard.authenticate("mqtt", "WD-4", "WD-4", new.encode()) is not None
    assert guard.authenticate("mqtt", "any", "tasmota", secret.encode()) is None


@given(
    listener=st.sampled_from([*LISTENERS, "other"]),
    client_id=st.sampled_from([*SECRETS, "", "WD-1/x", "other"]) | st.text(max_size=30),
    username=st.none() | st.sampled_from([*SECRETS, ""]) | st.text(max_size=30),
    password=st.none() | st.sampled_from([*SECRETS.values(), b""]) | st.binary(max_size=40),
    anonymous=st.booleans(),
)
def test_whatever_comes_is_answered_and_only_a_secret_opens(listener, client_id, username, password, anonymous):
    guard = RegistryAuthenticator(CredentialTable(ROWS), allow_anonymous=anonymous)

    access = guard.authenticate(listener, client_id, username, password)

    if access is ANONYMOUS:
        assert anonymous
        assert LISTENERS[listener] is Audience.MODULES
        assert username not in SECRETS
    elif access is not None:
        assert access.subject == username
        assert SECRETS[access.subject] == password
    assert (access is None) == (guard.refused.total() == 1)


@given(st.text(alphabet="aZ0_.-:/+# é\n", max_size=40))
def test_one_rule_for_serials(text: str):
    """The registry and the topics agree on what a serial is."""
    assert is_serial(text) == topics.is_serial(text)


class TestTheLogOfRefusals:
    @pytest.mark.parametrize(
        ("listener", "client_id", "username", "password", "text"),
        [
            (
                "mqtt",
                "bla",
                "WD-1",
                b"one",
                "client id 'bla' is not the user name 'WD-1'; a module's client id must be",
            ),
            ("mqtt", "WD-3", "WD-3", b"one", "unknown user 'WD-3'; register it with ./run provision WD-3"),
            ("mqtt", "x", "no serial\n", b"one", "unknown user 'no serial\\n'"),
            ("mqtt", "WD-1", "WD-1", b"two", "wrong secret for 'WD-1'"),
            ("mqtt", "WD-2", "WD-2", b"two", "'WD-2' is blocked"),
            ("operators", "WD-1", "WD-1", b"one", "a module may not use the operators' port"),
            ("mqtt", "x", "console", b"con", "'console' may not use the port of this listener"),
            ("mqtt", "x", None, None, "client 'x' gave no user name"),
        ],
    )
    def test_it_says_why(self, listener, client_id, username, password, text, caplog):
        rows = [row("WD-1", CredentialKind.MODULE), row("WD-2", CredentialKind.MODULE, blocked=True), ROWS[3]]
        guard = RegistryAuthenticator(CredentialTable(rows))

        assert guard.authenticate(listener, client_id, username, password) is None
        (line,) = caplog.messages
        assert f"listener {listener}" in line
        assert text in line
        if password is not None:
            assert f"{password!r}" not in line

    def test_a_user_name_is_told_once_a_minute_with_the_count_of_the_rest(self, caplog):
        now = [0.0]
        guard = RegistryAuthenticator(CredentialTable(ROWS), monotonic=lambda: now[0])
        for _ in range(5):
            guard.authenticate("mqtt", "WD-1", "WD-1", b"two")
        now[0] = 61.0
        guard.authenticate("mqtt", "WD-1", "WD-1", b"two")

        assert [line.endswith("(and 4 more that were not logged)") for line in caplog.messages] == [False, True]
        assert guard.refused["secret"] == 6
