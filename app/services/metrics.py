"""The statistics in Prometheus' text format: what each is, its unit, and its name by Prometheus' rules."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, UnknownMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "wattdeck_"


class Kind(enum.Enum):
    """A counter only rises, until the hub is started anew; a gauge is what it is now."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One statistic, or with a `*` at its end a family of them: what stands there becomes the label's value.

    `metric` is the name without prefix and ending, where it does not follow from the statistic's.
    """

    name: str
    kind: Kind
    help: str
    metric: str = ""
    label: str = ""


_C, _G = Kind.COUNTER, Kind.GAUGE
# The first that fits counts.
METRICS: tuple[Row, ...] = (
    Row("ingest.waiting", _G, "readings taken and not yet durable"),
    Row("ingest.received", _C, "readings decoded: kept, quarantined, unrouted and withheld"),
    Row("ingest.kept", _C, "readings taken for storing"),
    Row("ingest.quarantined", _C, "readings whose time is too far off"),
    Row("ingest.unrouted", _C, "readings of a module without a supply period"),
    Row("ingest.withheld_by_consent", _C, "readings that may not be kept"),
    Row("ingest.shed", _C, "readings dropped since the journal did not keep up"),
    Row("ingest.faults", _C, "chunks and views of readings that failed by a fault of ours"),
    Row("commit.failing", _G, "1 while no commit of the journal succeeds"),
    Row("commit.longest_commit_ms", _G, "the longest commit since the start", "commit_longest_seconds"),
    Row("commit.commits", _C, "commits of the journal"),
    Row("commit.failures", _C, "commits of the journal that failed, and were tried again"),
    Row("commit.committed", _C, "readings committed", "commit_readings"),
    Row("commit.acknowledged_batches", _C, "batches of messages acknowledged after their commit"),
    Row("commit.acknowledge_faults", _C, "acknowledgements that failed by a fault of ours"),
    Row("archive.failing", _G, "1 while segments can not be moved to the series store, or its upkeep fails"),
    Row("archive.waiting_segments", _G, "segments of the journal that wait for the series store"),
    Row("archive.segments", _C, "segments moved to the series store"),
    Row("archive.failures", _C, "segments that could not be moved, and were tried again"),
    Row("archive.upkeep_steps", _C, "steps of upkeep: merging, roll-ups, retention"),
    Row("archive.upkeep_failures", _C, "steps of upkeep that failed"),
    Row("archive.faults", _C, "failures of archiving by a fault of ours"),
    Row("journal.bytes_written", _C, "bytes written to the journal", "journal_written_bytes"),
    Row("journal.bytes", _G, "bytes of the journal on disk"),
    Row("journal.torn_bytes", _C, "bytes never promised that a crash left"),
    Row("journal.damaged_bytes", _C, "bytes of the journal that could not be read and were set aside"),
    Row("journal.damaged_segments", _C, "segments with such bytes"),
    Row("journal.batches", _C, "batches of rows appended to the journal"),
    Row("journal.rows", _C, "rows appended to the journal"),
    Row("journal.syncs", _C, "syncs of the journal"),
    Row("journal.sync_failures", _C, "syncs of the journal that failed"),
    Row("broker.connections", _G, "MQTT connections"),
    Row("broker.connects_waiting", _G, "CONNECTs that wait for their turn"),
    Row("broker.retained_messages", _G, "retained messages"),
    Row("broker.retained_bytes", _G, "bytes of retained messages"),
    Row("broker.sessions", _G, "MQTT sessions, connected or kept"),
    Row("broker.subscriptions", _G, "subscriptions of all sessions"),
    Row("broker.upstream_connected", _G, "connections to an external broker that are up"),
    Row("broker.upstream_unacknowledged", _G, "messages of an external broker that wait for their commit"),
    Row("broker.upstream_handed_over", _G, "messages of an external broker on their way to the loop"),
    Row("broker.upstream_last_message_s", _G, "age of the newest message of an external broker"),
    Row("broker.limit_*", _C, "times that a limit of the broker was hit", "broker_limit_hits", "limit"),
    Row("broker.dropped_*", _C, "messages not delivered to a client", "broker_dropped_messages", "reason"),
    Row("broker.*", _C, "events of the broker by kind", "broker_events", "event"),
    Row("messages.waiting_for_adoption", _G, "messages that wait until their module is registered"),
    Row("messages.*", _C, "messages of modules by kind", "messages", "kind"),
    Row("foreign.devices_*", _G, "devices of others that are known, by state", "foreign_devices", "state"),
    Row("foreign.unwritten", _G, "devices of others of which something is to be written"),
    Row("foreign.messages", _C, "messages on topics of other dialects"),
    Row("foreign.readings", _C, "readings heard of devices of others"),
    Row("foreign.unadopted", _C, "readings dropped since their device is no module (yet)"),
    Row("foreign.ignored", _C, "readings dropped since their device is ignored"),
    Row("foreign.too_many", _C, "things heard of devices that are not remembered, since too many are"),
    Row("foreign.refused", _C, "messages and parts of them that a dialect refused"),
    Row("foreign.faults", _C, "messages at which a dialect failed by a fault of ours"),
    Row("foreign.write_failures", _C, "writes of what was heard of devices that failed, and were tried again"),
    Row("refused.*", _C, "refused messages by reason", "refused_messages", "reason"),
    Row("serial.bytes_per_s", _G, "speed of the meter's line", "serial_bytes_per_second"),
    Row("serial.frame_age_s", _G, "age of the newest good frame"),
    Row("serial.meter_clock_offset_s", _G, "the meter's clock minus ours"),
    Row("serial.warning_*", _C, "warnings of the meter's line by kind", "serial_warnings", "warning"),
    Row("serial.bytes", _C, "bytes read from the meter's line"),
    Row("serial.*", _C, "events of the meter's line by kind", "serial_events", "event"),
    Row("modules.known", _G, "modules that are registered"),
    Row("modules.connected", _G, "modules with an MQTT session open"),
    Row("people.logins", _C, "log-ins"),
    Row("people.refused_logins", _C, "log-ins that were refused"),
    Row("people.locked_names", _C, "names that were locked after failed log-ins"),
    Row("people.tokens", _G, "sessions and API tokens that are let in"),
    Row("access_log.entries", _C, "entries written to the access log"),
    Row("access_log.repeats", _C, "looks at personal data that were counted only"),
    Row("access_log.refused", _C, "looks that were refused since they could not be noted"),
    Row("access_log.breaks", _G, "breaks of the chain of the access log that hubs have found"),
    Row("access_log.remembered", _G, "looks of this quarter of an hour"),
    Row("live.messages", _C, "messages of the live feed"),
    Row("live.bytes", _C, "bytes of the live feed"),
    Row("live.cpu_ms", _C, "CPU time of making and sending the live feed"),
    Row("live.loop_ms", _C, "the part of it on the hub's loop"),
    Row("live.loop_longest_ms", _G, "its longest piece on the hub's loop"),
    Row("live.grants", _G, "grants of the live feed that hold"),
    Row("live.events_shed", _C, "events of a storm that were left out of the live feed"),
    Row("events.noted", _C, "events of modules that happened"),
    Row("events.written", _C, "events that were stored"),
    Row("events.waiting", _G, "events that wait to be stored"),
    Row("events.shed", _C, "events dropped since their file could not be written"),
    Row("events.lost", _C, "events lost by a fault of ours"),
    Row("events.dropped_lines", _C, "log lines of modules that log without end"),
    Row("events.deleted", _C, "events whose time was over"),
    Row("events.write_failures", _C, "writes of events that failed"),
    Row("events.failing", _G, "1 while events can not be stored"),
    Row("commands.answers_waiting", _G, "answers to commands that wait for the registry"),
    Row("commands.modules_waiting", _G, "modules whose commands are looked at next"),
    Row("commands.answers_*", _C, "answers to commands that changed nothing, by reason", "command_answers", "reason"),
    Row("commands.sent_again", _C, "commands sent again on a new connection"),
    Row("commands.*", _C, "commands by the state they took", "commands", "state"),
    Row("backup.last_ok_age_s", _G, "age of the newest backup"),
    Row("backup.last_seconds", _G, "how long the last backup took", "backup_last_duration_seconds"),
    Row("backup.running", _G, "1 while a backup is made or looked through"),
    Row("backup.failing", _G, "1 when the last backup failed"),
    Row("backup.runs", _C, "backups that were made"),
    Row("backup.failures", _C, "backups that failed"),
    Row("backup.erasures_behind", _G, "erasures that the folder of the backups does not know yet"),
    Row("backup.erasure_failures", _C, "attempts to tell the folder of the backups of erasures that failed"),
    Row("jobs.running", _G, "jobs that run"),
    Row("jobs.unsaved", _C, "states of jobs that could not be written at once"),
    Row("jobs.*", _C, "jobs that ended, by how", "jobs", "end"),
    Row("hub.task_faults", _C, "tasks that failed by a fault of ours"),
    Row("hub.log_lines_dropped", _C, "log lines that could not be written"),
    Row("loop.lag_p50_ms", _G, "how late half of the loop's timers ran at most, over the last minute"),
    Row("loop.lag_p99_ms", _G, "how late 99 % of the loop's timers ran at most, over the last minute"),
    Row("api.connections", _G, "HTTP connections"),
    Row("api.latency_p50_ms", _G, "half of the newest 4,096 requests were answered within this"),
    Row("api.latency_p99_ms", _G, "99 % of the newest 4,096 requests were answered within this"),
    Row("api.requests_unanswered", _C, "requests that ended without a whole answer"),
    Row("api.requests_*", _C, "answered requests by class of status", "api_requests", "status"),
    Row("api.refused_*", _C, "requests and connections refused before their route, by reason", "api_refused", "reason"),
    Row("api.closed_slow", _C, "connections closed for sending or reading too slowly", "api_slow_connections"),
)


def row_of(statistic: str) -> Row | None:
    """What a statistic is; None for one that the table has forgotten."""
    for row in METRICS:
        if row.name == statistic or (row.name.endswith("*") and statistic.startswith(row.name[:-1])):
            return row
    return None


def exposition(statistics: Mapping[str, float], version: str) -> bytes:
    """All of them as a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Statistics(statistics, version))
    return generate_latest(registry)


class _Statistics(Collector):
    def __init__(self, statistics: Mapping[str, float], version: str) -> None:
        self._statistics = statistics
        self._version = version

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics, in the order of the table's families' first statistic."""
        families: dict[str, Metric] = {}
        for statistic, value in self._statistics.items():
            row = row_of(statistic)
            name, factor = _metric(statistic, row)
            if name not in families:
                families[name] = _family(name, row, statistic)
            family = families[name]
            labels = {row.label: statistic[len(row.name) - 1 :]} if row is not None and row.label else {}
            ending = "_total" if row is not None and row.kind is Kind.COUNTER else ""
            family.add_sample(name + ending, labels, value * factor)
        yield InfoMetricFamily(_PREFIX + "hub", "the program", {"version": self._version})
        yield from families.values()


def _family(name: str, row: Row | None, statistic: str) -> Metric:
    if row is None:
        return UnknownMetricFamily(name, f"the statistic {statistic}")
    return (CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily)(name, row.help)


def _metric(statistic: str, row: Row | None) -> tuple[str, float]:
    """Name and what a value is multiplied with: Prometheus has seconds, and the unit at the end."""
    if row is not None and row.metric:
        return _PREFIX + row.metric, 0.001 if statistic.endswith("_ms") else 1.0
    name = _PREFIX + "".join(character if character.isalnum() else "_" for character in statistic)
    if name.endswith("_ms"):
        return name.removesuffix("_ms") + "_seconds", 0.001
    if name.endswith("_s"):
        return name.removesuffix("_s") + "_seconds", 1.0
    return name, 1.0
