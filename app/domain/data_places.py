"""The rows of the data map."""

from __future__ import annotations

from app.domain.data_map import About, DataPlace

_MODULE = (About.MODULE,)
_PERSON = (About.PERSON,)
_BOTH = (About.MODULE, About.PERSON)
_OPERATOR = (About.OPERATOR,)
_KEPT = "as long as what it describes"
_HARDWARE = "it describes the hardware, which stays when its customer goes"
_OPERATORS_ONLY = "it is about people at the utility, who are no customers"
_NOBODY = "nothing of a module or person is in it"


def _table(name: str, holds: str, why: str, retention: str = _KEPT, **more: object) -> DataPlace:
    return DataPlace(f"registry.{name}", holds, why, retention, table=name, **more)  # type: ignore[arg-type]


REGISTRY_PLACES: tuple[DataPlace, ...] = (
    DataPlace(
        "registry.file",
        "the tables below, in one SQLite file, its log of changes, and copies made before a migration",
        "the one place that knows whose readings are whose",
        "as its tables; freed pages are overwritten when they are used again",
        _BOTH,
        paths=("registry.sqlite*",),
        not_erased="its tables are erased one by one",
    ),
    # The first to forget: what is left of sites and holders then, nobody needs.
    _table("keys", "which series key is which channel, site, holder and time", "forgetting begins here", about=_BOTH),
    _table(
        "pairings",
        "which site's meter a channel read, from when to when",
        "to know whose readings are whose",
        about=_BOTH,
        erased_with="registry.keys",
    ),
    _table("modules", "serial, kind, firmware, the meter's serial, a note", "to know the fleet", about=_MODULE),
    _table("module_tags", "words that operators put on a module", "to find modules", about=_MODULE),
    _table(
        "credentials",
        "user names, hashes of secrets, when they were used last",
        "to let modules in",
        about=_MODULE,
        not_erased=_HARDWARE,
    ),
    _table(
        "foreign_devices",
        "devices of others that were heard: ids, and what was recognised (name, addresses, Wi-Fi, meter's serial)",
        "to adopt them, and to know them again",
        "30 days after it was heard last; of adopted and ignored ones as long as they are",
        about=_BOTH,
    ),
    _table("channels", "inputs of a module", "to tell them apart", about=_MODULE, not_erased=_HARDWARE),
    _table("sites", "city, street, postcode, delivery point", "to know where a supply is", about=_PERSON),
    _table("cities", "names and numbers of cities", "sums over a city", "for ever", not_erased=_NOBODY),
    _table(
        "key_ledger",
        "every series key ever given",
        "a key is never given twice",
        "for ever",
        about=_BOTH,
        not_erased="a number alone says nothing of anybody, and must not come back",
    ),
    _table(
        "token_ledger",
        "every token of a holder ever given",
        "a token is never given twice",
        "for ever",
        about=_PERSON,
        not_erased="a token alone says nothing of anybody, and must not come back",
    ),
    _table("holders", "the tokens that stand for holders", "to tell supply periods apart", about=_PERSON),
    _table(
        "operators",
        "names, roles, hashes of passwords",
        "to let people in",
        about=_OPERATOR,
        not_erased=_OPERATORS_ONLY,
    ),
    _table(
        "sessions",
        "hashes of tokens, when they were used, what logged in",
        "to keep people in",
        "until they expire",
        about=_OPERATOR,
        not_erased=_OPERATORS_ONLY,
    ),
    _table(
        "api_tokens", "names and rights of third parties", "to let them in", about=_OPERATOR, not_erased=_OPERATORS_ONLY
    ),
    _table(
        "saved_views", "filters that an operator saved, perhaps with a serial in them", "to find it again", about=_BOTH
    ),
    _table("commands", "what was sent to a module, by whom, and its answer", "to see what was done", about=_BOTH),
    _table(
        "jobs",
        "what was to be done with which modules, by whom",
        "to go on after a restart",
        "{jobs.days} days after its end",
        about=_BOTH,
        erased_with="jobs.results",
    ),
    _table(
        "actions",
        "who changed what; no personal value, only which one",
        "to answer for changes",
        "{actions.days} days",
        about=(About.MODULE, About.PERSON, About.OPERATOR),
        not_erased="the utility answers for what its people did (GDPR art. 5(2)); it names tokens, never a person",
    ),
    _table(
        "access_log",
        "who looked at which attributes of whom, and why",
        "to prove that looks had a reason",
        "as the law asks",
        about=(About.MODULE, About.PERSON, About.OPERATOR),
        not_erased="a legal duty (GDPR art. 5(2), 17(3)(b)); a chain with a link taken out proves nothing",
    ),
    _table(
        "person_keys", "the keys that backups encrypt personal columns with", "without it they are noise", about=_BOTH
    ),
    _table(
        "erasures",
        "what was erased",
        "a restored backup erases it again",
        "for ever",
        about=_BOTH,
        not_erased="it is the list of erasures; a number or token alone says nothing of anybody",
    ),
    _table("alembic_version", "the version of the tables", "migrations", "for ever", not_erased=_NOBODY),
)

_SERIES = "to answer questions about consumption"


def _series(name: str, holds: str, retention: str) -> DataPlace:
    return DataPlace(
        f"series.{name}",
        f"{holds}, by series key",
        _SERIES,
        retention,
        _BOTH,
        paths=(f"series/{name}/*.parquet",),
        erased_with="" if name == "raw" else "series.raw",
    )


SERIES_PLACES: tuple[DataPlace, ...] = (
    DataPlace(
        "series.delta_log",
        "which files a table has, with the least and greatest key and time of each",
        "transactions",
        "{store.lease_minutes} min after a checkpoint",
        _BOTH,
        paths=("series/*/_delta_log/*",),
        not_erased="it has keys alone, whose owner the registry has forgotten, and goes with the next checkpoints",
    ),
    _series("raw", "readings", "{store.raw_days} days"),
    _series("registers", "indices of the supplier's registers", "{store.raw_days} days"),
    _series("aux", "further phases, injected energy", "{store.raw_days} days"),
    _series("ten_min", "buckets of ten minutes", "{store.ten_minute_days} days"),
    _series("ten_min_registers", "registers in buckets of ten minutes", "{store.ten_minute_days} days"),
    _series("hour", "buckets of an hour", "{store.hour_days} days"),
    _series("hour_registers", "registers in buckets of an hour", "{store.hour_days} days"),
    _series("day", "buckets of a day", "{store.day_days} days"),
    _series("day_registers", "registers in buckets of a day", "{store.day_days} days"),
    DataPlace(
        "series.fleet",
        "sums over the fleet and over cities",
        "charts of the fleet",
        "{store.fleet_days} days",
        paths=("series/fleet/*.parquet",),
        not_erased="sums over all modules of a city; nobody's part can be told",
    ),
    DataPlace(
        "series.removed",
        "files of the tables above that were replaced, for readers that still have them open",
        "readers in other processes",
        "{store.lease_minutes} min",
        _BOTH,
        erased_with="series.raw",
    ),
    DataPlace(
        "series.state",
        "which buckets of which key are to be made anew; which keys were erased",
        "roll-ups",
        "until they are made; erased keys for ever",
        _BOTH,
        paths=("series/tiers/*",),
        not_erased="keys alone, whose owner the registry has forgotten; the erased ones keep late readings out",
    ),
)

OTHER_PLACES: tuple[DataPlace, ...] = (
    DataPlace(
        "journal",
        "readings that are acknowledged and not yet in the series store",
        "nothing acknowledged is lost",
        "{ingest.segment_seconds} s, longer while the series store fails",
        _BOTH,
        paths=("journal/*.wal", "journal/journal.json*"),
        not_erased="it goes to the series store within seconds, which drops the rows of erased keys",
    ),
    DataPlace(
        "journal.damaged",
        "bytes that could not be read as readings",
        "to find out what broke",
        "until somebody removes them",
        _BOTH,
        paths=("journal/damaged/*",),
    ),
    DataPlace(
        "live",
        "the newest value of each module and its power of the last five minutes, in memory",
        "live views and rules",
        "5 min; the newest value until the next",
        _BOTH,
    ),
    DataPlace(
        "directory",
        "serials, their keys and credentials, in memory",
        "every reading finds its key there",
        "as the registry",
        _BOTH,
        erased_with="registry.keys",
    ),
    DataPlace(
        "quarantine",
        "messages that were refused, with the reason",
        "to find out what a module does wrong",
        "the newest {ingest.quarantine_rows}",
        _BOTH,
        paths=("quarantine.sqlite*",),
    ),
    DataPlace(
        "events",
        "what happened to a module: connects, births, pairings, log lines",
        "time lines and reports",
        "{events.days} days",
        _BOTH,
        paths=("events.sqlite*",),
    ),
    DataPlace(
        "broker.file",
        "retained messages, sessions and what waits for them, in one SQLite file",
        "a restart loses none",
        "as the three below; freed pages are overwritten when they are used again",
        _BOTH,
        paths=("broker/*",),
        not_erased="what is in it is erased by kind",
    ),
    DataPlace(
        "broker.retained",
        "the newest message of topics that are retained: births and last wills",
        "who connects later learns them",
        "until the next; while the limits of [broker] hold",
        _BOTH,
    ),
    DataPlace(
        "broker.queues",
        "messages for clients that are away",
        "guaranteed delivery",
        "{broker.session_expiry_max_s} s at most",
        _BOTH,
    ),
    DataPlace(
        "broker.sessions",
        "client ids and subscriptions",
        "sessions that outlive a connection",
        "{broker.session_expiry_max_s} s at most",
        _MODULE,
        not_erased=_HARDWARE,
    ),
    DataPlace(
        "jobs.results",
        "files that jobs made: readings with serials, what became of each module of a bulk with new secrets, receipts",
        "to be fetched by whoever asked for them",
        "{jobs.result_days} days",
        _BOTH,
        paths=("jobs/*",),
    ),
    DataPlace(
        "imports",
        "copies of series that an operator put there",
        "to be taken in",
        "until the operator removes them",
        _BOTH,
        paths=("imports/*",),
        not_erased="the operator's own files, which may be the only copy; remove them once they are taken in",
    ),
    DataPlace(
        "backups",
        "the registry and the series as they were; personal columns are encrypted by person",
        "a disk that breaks",
        "as the schedule says",
        _BOTH,
        encrypted=True,
        paths=("backups/*", "restore.unfinished"),
        erased_with="registry.person_keys",
    ),
    DataPlace(
        "before_upgrade",
        "the registry as it was before a newer program changed it, in clear",
        "a way back",
        "until somebody removes it",
        _BOTH,
        paths=("before-upgrade/*",),
    ),
    DataPlace(
        "access_log.head",
        "number and hash of the newest entry of the access log",
        "a tail that was cut off is found",
        "for ever",
        paths=("access-log.head*",),
        not_erased=_NOBODY,
    ),
    DataPlace(
        "log.stderr",
        "what the hub did; serials at most, no reading, no name, no secret",
        "to find faults",
        "as whoever starts the hub keeps it",
        _MODULE,
        paths=("logs/*", "*.log"),
        log="stderr",
        not_erased="a serial in a line says nothing of a person once the registry has forgotten whose it was",
    ),
    DataPlace(
        "exported",
        "files that were fetched from this hub",
        "whoever fetched them had a purpose, which the access log has",
        "with whoever has them",
        _BOTH,
        not_erased="out of our reach; the access log says who has them",
    ),
    DataPlace("tls", "certificates and their keys", "TLS", "for ever", paths=("tls/*",), not_erased=_NOBODY),
    DataPlace(
        "serial.modes",
        "which port's meter speaks how",
        "a quicker start",
        "the latest 64 ports",
        paths=("serial.json*",),
        not_erased=_NOBODY,
    ),
    DataPlace(
        "settings",
        "settings of the hub",
        "how it runs",
        "until they are changed",
        paths=("wattdeck.toml*",),
        not_erased=_NOBODY,
    ),
    DataPlace(
        "hub.files",
        "the hub's process id and where it listens",
        "one hub for one directory",
        "while it runs",
        paths=("hub.lock", "hub.json", "hub.new"),
        not_erased=_NOBODY,
    ),
)

PLACES: tuple[DataPlace, ...] = (*REGISTRY_PLACES, *SERIES_PLACES, *OTHER_PLACES)
