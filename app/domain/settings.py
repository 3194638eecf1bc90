"""The catalogue of settings: every key with its type, default, range and reason, as data."""

from __future__ import annotations

import dataclasses
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
) -> Any:
    """One row of the catalogue; `minimum` and `maximum` are inclusive."""
    return dataclasses.field(
        default=default, metadata={"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices}
    )


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


@dataclasses.dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates; empty paths mean the hub's own local CA."""

    enabled: bool = setting(True, "listen for MQTT over TLS at all")
    certificate: str = setting("", "server certificate chain of your own, PEM")
    key: str = setting("", "private key of that certificate, PEM, without a passphrase")


@dataclasses.dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The registry of modules, sites, keys and credentials."""

    url: str = setting("", "SQLAlchemy URL (postgresql+psycopg://...); empty is DATA/registry.sqlite")
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

    commit_ms: int = setting(250, "longest time from arrival to commit (group commit)", minimum=10, maximum=5000)
    buffer_rows: int = setting(
        1_000_000,
        "readings waiting in memory for the journal; above, QoS 0 sheds its oldest (QoS 1 is held from half of it)",
        minimum=10_000,
        maximum=20_000_000,
    )
    segment_seconds: int = setting(
        10, "a journal segment becomes a commit of the series store after this", minimum=1, maximum=600
    )
    segment_mb: int = setting(64, "... or at this size", minimum=1, maximum=1024)
    future_minutes: float = setting(5.0, "a reading further in the future goes to quarantine", minimum=0, maximum=1440)
    resent_days: int = setting(31, "oldest reading accepted when its module says it is re-sent", minimum=0, maximum=400)
    quarantine_rows: int = setting(10_000, "refused messages kept for operators", minimum=0, maximum=1_000_000)
    minimum_free_mb: int = setting(
        256,
        "with less free disk the journal takes no readings, so that the registry can still be written",
        minimum=0,
        maximum=1_000_000,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class StoreSettings:
    """The series store: tiers and upkeep."""

    raw_days: int = setting(2, "raw readings are kept this long", minimum=1, maximum=4000)
    ten_minute_days: int = setting(31, "10-minute tier", minimum=1, maximum=4000)
    hour_days: int = setting(396, "hour tier (13 months)", minimum=1, maximum=8000)
    day_days: int = setting(761, "day tier (25 months)", minimum=1, maximum=20000)
    fleet_days: int = setting(396, "fleet and city series at 10 s (13 months)", minimum=1, maximum=8000)
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

    directory: str = setting("", "folder of the backups, on another disk than the data; empty is none")
    at: str = setting("", "time of day (HH:MM, in store.time_zone) of the daily backup; empty is off")
    keep: int = setting(14, "how many of the newest snapshots stay; 0 keeps all", minimum=0, maximum=10_000)


@dataclasses.dataclass(frozen=True, slots=True)
class SerialSettings:
    """A meter on a serial port."""

    url: str = setting("", "any pyserial URL: /dev/ttyUSB0, COM3, socket://host:port; empty is none")


@dataclasses.dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub process."""

    engine: str = setting("native", "the modules' broker engine", choices=("native", "amqtt", "external"))
    log_level: str = setting("INFO", "least level that is logged", choices=("DEBUG", "INFO", "WARNING", "ERROR"))


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the hub, by section."""

    hub: HubSettings = dataclasses.field(default_factory=HubSettings)
    listen: ListenSettings = dataclasses.field(default_factory=ListenSettings)
    tls: TlsSettings = dataclasses.field(default_factory=TlsSettings)
    broker: BrokerOptions = dataclasses.field(default_factory=BrokerOptions)
    registry: RegistrySettings = dataclasses.field(default_factory=RegistrySettings)
    ingest: IngestSettings = dataclasses.field(default_factory=IngestSettings)
    store: StoreSettings = dataclasses.field(default_factory=StoreSettings)
    serial: SerialSettings = dataclasses.field(default_factory=SerialSettings)
    backup: BackupSettings = dataclasses.field(default_factory=BackupSettings)


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
            )
    return rows
