"""From the settings of an external broker to its engine."""

from __future__ import annotations

import secrets
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from app.domain.broker_url import parse_broker_url
from app.domain.errors import OperatorInputError
from app.domain.settings import ExternalSettings
from app.hub.data_directory import DataDirectory
from app.protocol.live import LIVE_PREFIX
from app.protocol.topics import FROM_MODULE, PREFIX
from broker.engine import Engine, Sink
from broker.options import Upstream

if TYPE_CHECKING:
    from broker.external_engine import ExternalEngine

# The name of this directory's session at a broker: another directory, or a copy of it, must not take it over.
CLIENT_ID_FILE = "external-client-id"
OUR_TOPICS = tuple(f"{PREFIX}+/{kind.value}" for kind in FROM_MODULE)


def external_engine(settings: ExternalSettings, directory: DataDirectory, sink: Sink, beside: Engine) -> ExternalEngine:
    """The engine; `beside` serves the operators. Raises OperatorInputError for files that can not be used."""
    # paho takes a while to import, and only who asks for it shall pay.
    from broker.external_engine import ExternalEngine  # noqa: PLC0415

    upstream = upstream_of(settings, directory.broker)
    return ExternalEngine(upstream, settings.topics or OUR_TOPICS, sink, beside=beside, private=LIVE_PREFIX)


def upstream_of(settings: ExternalSettings, folder: Path) -> Upstream:
    """Where and how to connect. Raises OperatorInputError."""
    url = parse_broker_url(settings.url)
    password = _password(Path(settings.password_file)) if settings.password_file else url.password
    files = {name: _path(getattr(settings, name)) for name in ("ca_file", "certificate", "key")}
    if url.tls:
        _check_tls(files)
    return Upstream(
        url.host,
        url.port,
        settings.client_id or f"wattdeck-{_own_name(folder)}",
        settings.username or url.username,
        password,
        url.tls,
        files["ca_file"],
        files["certificate"],
        files["key"],
        settings.consumers,
        settings.shared_group,
        int(settings.session_hours * 3600),
    )


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _password(path: Path) -> str:
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorInputError(f"external.password_file: {path} can not be read: {error}") from error
    if not lines or not lines[0]:
        raise OperatorInputError(f"external.password_file: the first line of {path} is empty")
    return lines[0]


def _check_tls(files: dict[str, Path | None]) -> None:
    try:
        context = ssl.create_default_context(cafile=files["ca_file"])
        if files["certificate"] is not None:
            context.load_cert_chain(files["certificate"], files["key"])
    except OSError as error:
        raise OperatorInputError(f"external.ca_file, .certificate or .key can not be used: {error}") from error


def _own_name(folder: Path) -> str:
    """Made once for a directory: the broker's session is known by it."""
    path = folder / CLIENT_ID_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        name = secrets.token_hex(6)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n", encoding="ascii")
        return name
