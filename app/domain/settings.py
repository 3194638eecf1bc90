"""The catalogue of settings: every key with its type, default, range and reason, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from broker.options import BrokerOptions

# Where modules can reach us by default; operators and the API stay on this machine until told otherwise.
ANY_HOST = ("0.0.0.0", "::")  # noqa: S104 - modules are other machines; every connection needs a credential
LOOPBACK = ("127.0.0.1", "::1")

# A port of this value is derived from the modules' plain port, so that two hubs on one machine do not collide.
DERIVED_PORT = -1


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    live: bool = False,
    secret: bool = False,
) -> Any:
    """One row of the catalogue; `minimum` and `maximum` are inclusive.

    `live`: may change while the hub runs (who uses it looks again, or is told). `secret`: may hold a password.
    """
    meta = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices, "live": live, "secret": secret}
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the hub listens."""

    mqtt_hosts: tuple[str, ...] = setting(ANY_HOST, "addresses of the modules' plain and TLS listeners")
    mqtt_port: int = setting(1883, "modules' plain MQTT port; 0 takes a free one", minimum=0, maximum=65535)
    mqtts_port: int = setting(
        DERIVED_PORT, "modules' MQTT over TLS; -1 is mqtt_port + 7000 (8883)", minimum=-1, maximum=65535
    )
    operators_hosts: tuple[str, ...] = setting(LOOPBACK, "addresses of the operators' MQTT listener")
    operators_port: int = setting(
        DERIVED_PORT, "operators' MQTT (live feed); -1 is mqtt_port + 7001 (8884)", minimum=-1, maximum=65535
    )
    api_host: str = setting("127.0.0.1", "address of the HTTP API")
    api_port: int = setting(8443, "port of the HTTP API; 0 takes a free one", minimum=0, maximum=65535)
    api_tls: str = setting(
        "auto",
        "HTTPS for the API; auto: plain HTTP where only this machine reaches it, HTTPS on every other address",
        choices=("auto", "always"),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates, of MQTT and of the API; empty paths mean the hub's own local CA."""

    enabled: bool = setting(True, "listen for MQTT over TLS at all; HTTPS is listen.api_tls")
    certificate: str = setting("", "server certificate chain of your own, PEM")
    key: str = setting("", "private key of that certificate, PEM, without a passphrase")


@dataclasses.dataclass(frozen=True, slots=True)
class ApiSettings:
    """What the API answers to."""

    names: tuple[str, ...] = setting(
        (), "further names by which the API is reached (a proxy's, an alias); requests for other names are refused"
    )
    max_connections: int = setting(
        500, "connections at once; above, requests are answered with 503", minimum=4, maximum=10_000, live=True
    )
    metrics_open: bool = setting(False, "answer /metrics without a token; only where the API is on loopback")


@dataclasses.dataclass(frozen=True, slots=True)
class ExternalSettings:
    """A broker somebody else runs, for hub.engine = external."""

    url: str = setting(
        "",
        "where it is: mqtt://host[:1883] or mqtts://host[:8883]; a user (and, less well, a password) may stand in it",
        secret=True,
    )
    username: str = setting("", "user name there, instead of the one in the URL")
    password_file: str = setting("", "a file whose first line is the password; only the hub's user need read it")
    ca_file: str = setting("", "PEM of the authority that its certificate is checked with; empty: the system's own")
    certificate: str = setting("", "certificate chain of this hub for a broker that asks for one, PEM")
    key: str = setting("", "private key of that certificate, PEM, without a passphrase")
    client_id: str = setting(
        "", "what the hub's client ids begin with; empty: wattdeck- and a name of the directory's own"
    )
    topics: tuple[str, ...] = setting((), "filters the hub subscribes to; empty: those of our own modules")
    consumers: int = setting(
        1, "connections among which the filters are dealt out; a topic stays with one", minimum=1, maximum=16
    )
    shared_group: str = setting(
        "", "subscribe as this shared group, so that a standby hub can take over; never two hubs at once"
    )
    session_hours: float = setting(
        168.0, "the broker keeps what comes while the hub is away so long (MQTT 5)", minimum=0.01, maximum=10_000
    )


@dataclasses.dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The registry of modules, sites, keys and credentials."""

    url: str = setting("", "SQLAlchemy URL (postgresql+psycopg://...); empty is DATA/registry.sqlite", secret=True)
    adopt_unknown: str = setting(
        "auto",
        "register an unknown module when it first publishes; auto: only while the broker allows anonymous clients",
        choices=("auto", "yes", "no"),
    )
    upgrade: str = setting(
        "refuse",
        "what becomes of an older registry on a server, which the hub can not copy first; yes: it is changed (back it "
        "up before); an SQLite file is copied and changed in any case",
        choices=("refuse", "yes"),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class IngestSettings:
    """From packet to journal."""

    commit_ms: int = setting(
        250, "longest time from arrival to commit (group commit)", minimum=10, maximum=5000, live=True
    )
    buffer_rows: int = setting(
        1_000_000,
        "readings waiting in memory for the journal; above, QoS 0 sheds its oldest (QoS 1 is held from half of it)",
        minimum=10_000,
        maximum=20_000_000,
    )
    segment_seconds: int = setting(
        10, "a journal segment becomes a commit of the series store after this", minimum=1, maximum=600, live=True
    )
    segment_mb: int = setting(64, "... or at this size", minimum=1, maximum=1024, live=True)
    future_minutes: float = setting(
        5.0, "a reading further in the future goes to quarantine", minimum=0, maximum=1440, live=True
    )
    resent_days: int = setting(
        31, "oldest reading accepted when its module says it is re-sent", minimum=0, maximum=400, live=True
    )
    quarantine_rows: int = setting(
        10_000, "refused messages kept for operators", minimum=0, maximum=1_000_000, live=True
    )
    minimum_free_mb: int = setting(
        256,
        "with less free disk the journal takes no readings, so that the registry can still be written",
        minimum=0,
        maximum=1_000_000,
        live=True,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class StoreSettings:
    """The series store: tiers and upkeep."""

    raw_days: int = setting(2, "raw readings are kept this long", minimum=1, maximum=4000, live=True)
    ten_minute_days: int = setting(31, "10-minute tier", minimum=1, maximum=4000, live=True)
    hour_days: int = setting(396, "hour tier (13 months)", minimum=1, maximum=8000, live=True)
    day_days: int = setting(761, "day tier (25 months)", minimum=1, maximum=20000, live=True)
    fleet_days: int = setting(396, "fleet and city series at 10 s (13 months)", minimum=1, maximum=8000, live=True)
    merge_files: int = setting(
        54, "files of 10 s that may gather before they are merged; a query opens each", minimum=2, maximum=58
    )
    upkeep_seconds: float = setting(
        5.0, "how often upkeep looks for work: merging, roll-ups, retention", minimum=0.05, maximum=600
    )
    clean_minutes: float = setting(
        10.0, "how often retention and cleaning look for what is due", minimum=0.01, maximum=1440
    )
    lease_minutes: float = setting(15.0, "replaced files stay this long for readers", minimum=0, maximum=1440)
    time_zone: str = setting("Europe/Paris", "days of homes whose site has no zone")


@dataclasses.dataclass(frozen=True, slots=True)
class BackupSettings:
    """Backups on a schedule."""

    directory: str = setting("", "folder of the backups, on another disk than the data; empty is none", live=True)
    at: str = setting("", "time of day (HH:MM, in store.time_zone) of the daily backup; empty is off", live=True)
    keep: int = setting(14, "how many of the newest snapshots stay; 0 keeps all", minimum=0, maximum=10_000, live=True)


@dataclasses.dataclass(frozen=True, slots=True)
class SerialSettings:
    """A meter on a serial port."""

    url: str = setting("", "any pyserial URL: /dev/ttyUSB0, COM3, socket://host:port; empty is none")
    protocol: str = setting(
        "auto",
        "what the meter speaks: TIC (Linky), DSMR (P1 of Dutch and Belgian meters); auto: whichever is understood",
        choices=("auto", "tic", "dsmr"),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class PeopleSettings:
    """Operators and their log-ins."""

    session_hours: float = setting(
        12.0, "a log-in ends so long after it began, used or not", minimum=0.1, maximum=720, live=True
    )
    login_attempts: int = setting(
        5,
        "a name is locked after so many failed log-ins in a row, and again after as many more",
        minimum=1,
        maximum=100,
        live=True,
    )
    lock_minutes: float = setting(15.0, "... for this long, each time the same", minimum=0.1, maximum=1440, live=True)


@dataclasses.dataclass(frozen=True, slots=True)
class PrivacySettings:
    """Personal data."""

    purpose_required: bool = setting(
        True,
        "personal data are shown only to requests that state a purpose; off, the access log says 'not stated'",
        live=True,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class EventsSettings:
    """What happened to modules."""

    days: int = setting(90, "events are kept this long", minimum=1, maximum=4000, live=True)


@dataclasses.dataclass(frozen=True, slots=True)
class LiveSettings:
    """The live feed."""

    grant_minutes: int = setting(
        15, "a grant for a topic of the live feed ends after this", minimum=1, maximum=1440, live=True
    )


@dataclasses.dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub process."""

    engine: str = setting("native", "the modules' broker engine", choices=("native", "amqtt", "external"))
    log_level: str = setting(
        "INFO", "least level that is logged", choices=("DEBUG", "INFO", "WARNING", "ERROR"), live=True
    )


@dataclasses.dataclass(frozen=True, slots=True)
class JobsSettings:
    """Long work in the background."""

    result_days: int = setting(7, "the file a job has made is kept this long", minimum=1, maximum=365, live=True)
    days: int = setting(90, "what is known of an ended job is kept this long", minimum=1, maximum=4000, live=True)


@dataclasses.dataclass(frozen=True, slots=True)
class ActionsSettings:
    """Who changed what."""

    days: int = setting(400, "changes by people are remembered this long", minimum=1, maximum=8000, live=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the hub, by section."""

    hub: HubSettings = dataclasses.field(default_factory=HubSettings)
    listen: ListenSettings = dataclasses.field(default_factory=ListenSettings)
    api: ApiSettings = dataclasses.field(default_factory=ApiSettings)
    tls: TlsSettings = dataclasses.field(default_factory=TlsSettings)
    broker: BrokerOptions = dataclasses.field(default_factory=BrokerOptions)
    external: ExternalSettings = dataclasses.field(default_factory=ExternalSettings)
    registry: RegistrySettings = dataclasses.field(default_factory=RegistrySettings)
    ingest: IngestSettings = dataclasses.field(default_factory=IngestSettings)
    store: StoreSettings = dataclasses.field(default_factory=StoreSettings)
    serial: SerialSettings = dataclasses.field(default_factory=SerialSettings)
    people: PeopleSettings = dataclasses.field(default_factory=PeopleSettings)
    privacy: PrivacySettings = dataclasses.field(default_factory=PrivacySettings)
    events: EventsSettings = dataclasses.field(default_factory=EventsSettings)
    live: LiveSettings = dataclasses.field(default_factory=LiveSettings)
    jobs: JobsSettings = dataclasses.field(default_factory=JobsSettings)
    actions: ActionsSettings = dataclasses.field(default_factory=ActionsSettings)
    backup: BackupSettings = dataclasses.field(default_factory=BackupSettings)


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each key that is not at its default was said: the file, or what stands above it."""

    settings: Settings
    said_by: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One setting as the documentation, the validation and later the settings page see it."""

    key: str
    type: type | object
    default: object
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] | None
    live: bool = False
    secret: bool = False

    def of(self, settings: Settings) -> Any:
        """Its value among settings."""
        section, _, name = self.key.partition(".")
        return getattr(getattr(settings, section), name)

    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type is bool:
            return "true or false"
        noun = {int: "a whole number", float: "a number", str: "text"}.get(self.type, "a list of texts")  # type: ignore[call-overload]
        if self.minimum is not None and self.maximum is not None:
            return f"{noun} from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"{noun}, at least {self.minimum}"
        return str(noun)


def catalogue() -> dict[str, Row]:
    """Every setting by its dotted key, in the order of the sections."""
    from typing import get_type_hints  # noqa: PLC0415 - only here

    rows = {}
    for section in dataclasses.fields(Settings):
        section_class = get_type_hints(Settings)[section.name]
        hints = get_type_hints(section_class)
        for field in dataclasses.fields(section_class):
            key = f"{section.name}.{field.name}"
            meta = field.metadata
            rows[key] = Row(
                key,
                hints[field.name],
                field.default,
                meta["doc"],
                meta.get("minimum"),
                meta.get("maximum"),
                meta.get("choices"),
                meta.get("live", False),
                meta.get("secret", False),
            )
    return rows
