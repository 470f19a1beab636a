"""Every metric: its name, type, labels and meaning, and what several workers make of it.

docs/metrics.md has the same table (`tests/test_metrics_page.py`). Label values come from the
configuration and from tables in the code, never from a request.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec


class MetricKind(StrEnum):
    """The types of Prometheus's text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How one value comes of those of several workers."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    EACH = "each"  # one value for each worker, with the label `worker`


class MetricFamily(msgspec.Struct, frozen=True):
    """One metric. `name` has no suffix: a counter's samples end in `_total`."""

    name: str
    kind: MetricKind
    text: str
    labels: tuple[str, ...] = ()
    merge: Merge = Merge.SUM

    @property
    def shown(self) -> str:
        """The name that queries use."""
        return f"{self.name}_total" if self.kind is MetricKind.COUNTER else self.name


_made: Final[list[MetricFamily]] = []


def _family(
    name: str,
    kind: MetricKind,
    text: str,
    labels: tuple[str, ...] = (),
    merge: Merge = Merge.SUM,
) -> MetricFamily:
    _made.append(MetricFamily(name, kind, text, labels, merge))
    return _made[-1]


def _counter(name: str, text: str, *labels: str, merge: Merge = Merge.SUM) -> MetricFamily:
    return _family(f"sidecar_{name}", MetricKind.COUNTER, text, labels, merge)


def _gauge(name: str, text: str, *labels: str, merge: Merge = Merge.SUM) -> MetricFamily:
    return _family(f"sidecar_{name}", MetricKind.GAUGE, text, labels, merge)


def _histogram(name: str, text: str, *labels: str) -> MetricFamily:
    return _family(f"sidecar_{name}", MetricKind.HISTOGRAM, text, labels)


# -- requests -------------------------------------------------------------------------------------

REQUESTS: Final = _counter("requests", "Requests by route and status.", "route", "status")
DECISIONS: Final = _counter(
    "decisions", "Requests by route and what was done.", "route", "decision"
)
REQUEST_SECONDS: Final = _histogram(
    "request_duration_seconds", "Time from a request's head to its response's end.", "route"
)
REQUEST_BYTES: Final = _counter(
    "request_body_bytes", "Bytes of request bodies, without framing.", "route"
)
RESPONSE_BYTES: Final = _counter(
    "response_body_bytes", "Bytes of response bodies as sent, without framing.", "route"
)
RESPONSES: Final = _counter(
    "responses", "Responses of the sidecar's own with an error, by its code.", "code"
)
OBSERVED: Final = _counter(
    "observed", "What observed routes would have done, by route.", "route", "would"
)
IN_FLIGHT: Final = _gauge("requests_in_flight", "Requests under way.", "kind")
IN_FLIGHT_LIMIT: Final = _gauge(
    "requests_in_flight_limit", "Requests that may be under way (limits.in_flight).", "kind"
)
LASTING: Final = _gauge("lasting_responses", "Open WebSockets and event streams.", "kind")
CONNECTIONS: Final = _gauge("client_connections", "Open client connections.")
CONNECTIONS_LIMIT: Final = _gauge(
    "client_connections_limit", "Client connections that may be open (limits.connections)."
)
LIMITED_CONNECTIONS: Final = _counter(
    "limited_connections",
    "Client connections closed or refused above limits.connections, or refused above "
    "limits.per_client.connections.",
    "outcome",
)
UNREAD_BYTES: Final = _gauge(
    "unread_bytes",
    "Bytes of clients that are no request yet: heads that are not whole, pipelined requests.",
)
UNREAD_BYTES_LIMIT: Final = _gauge(
    "unread_bytes_limit", "How many of these there may be, before connections are cut."
)
UNREAD_CUT: Final = _counter(
    "unread_cut", "Client connections cut, as they held most of too many unread bytes."
)
PROXY_HEADERS_REFUSED: Final = _counter(
    "proxy_headers_refused",
    "Connections closed for lack of a PROXY header that is believed (listen.proxy_protocol).",
    "reason",
)
HANDSHAKES_FAILED: Final = _counter(
    "tls_handshakes_failed",
    "TLS handshakes of clients that came to nothing, by reason.",
    "reason",
)
RATE_LIMITED: Final = _counter(
    "rate_limited", "What was refused above a rate of limits.per_client.", "limit"
)

# -- upstreams ------------------------------------------------------------------------------------

UPSTREAM_ERRORS: Final = _counter(
    "upstream_errors",
    "Requests that failed because of their upstream, by cause.",
    *("upstream", "cause"),
)
UPSTREAM_RETRIES: Final = _counter("upstream_retries", "Requests repeated on a new connection.")
UPSTREAM_CONNECTIONS: Final = _gauge(
    "upstream_connections", "Open connections to upstreams.", "upstream", "state"
)
UPSTREAM_WAITING: Final = _gauge(
    "upstream_waiting", "Requests that wait for a connection.", "upstream"
)
UPSTREAM_SECONDS: Final = _histogram(
    "upstream_duration_seconds",
    "Time from sending a request to its upstream to the response's head.",
    "upstream",
)
UPSTREAM_WAIT_SECONDS: Final = _histogram(
    "upstream_wait_seconds",
    "Time that requests waited for a connection, unless they found one idle at once.",
    "upstream",
)
UPSTREAM_UNREACHABLE: Final = _gauge(
    "upstream_unreachable",
    "Whether no server of an upstream takes a connection; of several workers, in how many.",
    "upstream",
)
UPSTREAM_EJECTED: Final = _gauge(
    "upstream_ejected",
    "Whether a server is left out while others serve; of several workers, in how many.",
    *("upstream", "address"),
)
UPSTREAM_EJECTIONS: Final = _counter(
    "upstream_ejections", "How often a server was left out.", "upstream", "address"
)

# -- sessions -------------------------------------------------------------------------------------

SESSIONS_OPENED: Final = _counter(
    "sessions_opened",
    "Session cookies that were read, by source and result; not those that were remembered.",
    *("source", "result"),
)
SESSIONS_UNREADABLE: Final = _counter(
    "sessions_unreadable", "Session cookies that did not open, by source.", "source"
)
SESSIONS_CACHED: Final = _gauge("sessions_cached", "Cookie headers remembered.")
SESSIONS_ENDED: Final = _counter("sessions_ended", "Live sessions ended, by reason.", "reason")
BRAKE_ENGAGED: Final = _gauge(
    "brake_engaged",
    "Whether a storm of 401 ends no sessions, by route; of several workers, of how many.",
    "route",
)
TOMBSTONES: Final = _gauge("tombstones", "Dead sessions remembered.", merge=Merge.EACH)
COOKIES_DROPPED: Final = _counter("cookies_dropped", "Session cookies of upstreams dropped.")
LOGOUTS: Final = _counter("logouts", "Logouts answered, by reason.", "reason")
LOGOUT_STEPS: Final = _counter(
    "logout_steps", "What follows a logout, by outcome.", "step", "outcome"
)
LOGINS: Final = _counter(
    "logins", "Logins here that came back from the provider, by outcome.", "outcome"
)
BACKCHANNEL_LOGOUTS: Final = _counter(
    "backchannel_logouts", "Logout tokens of the provider, by outcome.", "outcome"
)
REFRESHES: Final = _counter("refreshes", "Exchanges of refresh tokens, by outcome.", "outcome")
REFRESH_SECONDS: Final = _histogram(
    "refresh_duration_seconds", "Time until the provider answered an exchange, or did not."
)
PROVIDER_UP: Final = _gauge(
    "provider_up",
    "Whether the last fetch of what the provider publishes succeeded (1) or failed (0).",
    "document",
    merge=Merge.MIN,
)
PROVIDER_FETCHED: Final = _gauge(
    "provider_last_fetch_timestamp_seconds",
    "When what the provider publishes was fetched last; 0 if it was not yet.",
    "document",
    merge=Merge.MIN,
)

# -- store ----------------------------------------------------------------------------------------

STORE_UP: Final = _gauge(
    "store_up",
    "Whether the last operation of the store succeeded (1) or failed (0).",
    merge=Merge.MIN,
)
STORE_SECONDS: Final = _histogram(
    "store_duration_seconds", "Time of the store's operations, by operation.", "operation"
)
STORE_ERRORS: Final = _counter(
    "store_errors", "Operations of the store that failed, by operation.", "operation"
)
STORE_UNOPENED: Final = _counter(
    "store_unopened", "Entries and messages of the store that did not open: another secret."
)
STORE_BYTES: Final = _gauge(
    "store_bytes",
    "Bytes that the store takes: in memory, its file, or the fullest Redis server.",
    merge=Merge.MAX,
)
STORE_BYTES_LIMIT: Final = _gauge(
    "store_bytes_limit",
    "Bytes that the store may take: in memory, or `maxmemory` of that server.",
    merge=Merge.MAX,
)
STORE_MAY_EVICT: Final = _gauge(
    "store_may_evict",
    "Whether the store may drop sessions to make room (1), as Redis does by most of its policies.",
    merge=Merge.MAX,
)
STORE_ENTRIES: Final = _gauge("store_entries", "Entries of the store in memory.", merge=Merge.MAX)
STORE_PENDING: Final = _gauge(
    "store_pending",
    "What the store has not taken yet, so that no other process knows it.",
    "kind",
)
STORE_LOSSES: Final = _counter("store_losses", "How often the store had lost what it had taken.")

# -- the process ----------------------------------------------------------------------------------

BUILD: Final = _gauge(
    "build_info",
    "Always 1; its labels say what runs.",
    *("version", "python", "aiohttp"),
    merge=Merge.MAX,
)
CONFIG: Final = _gauge(
    "config_info", "Always 1; the hash of the configuration that holds.", "hash", merge=Merge.MAX
)
RELOADS: Final = _counter(
    "config_reloads", "Reloads of the configuration, by outcome.", "outcome", merge=Merge.MAX
)
RELOADED: Final = _gauge(
    "config_last_reload_successful",
    "Whether the last reload succeeded (1) or not (0); 1 before the first.",
    merge=Merge.MIN,
)
RELOADED_AT: Final = _gauge(
    "config_last_reload_success_timestamp_seconds",
    "When the configuration that holds was read.",
    merge=Merge.MIN,
)
CERTIFICATES: Final = _gauge(
    "tls_certificate_expiry_timestamp_seconds",
    "When the certificate of a file ends, as it was loaded last; of several authorities the first.",
    *("file", "use"),
    merge=Merge.MIN,
)
READY: Final = _gauge(
    "ready", "What /readyz answered last: 1 or 0; 1 before it was asked.", merge=Merge.MIN
)
LOG_LINES_LOST: Final = _counter("log_lines_lost", "Log lines dropped, as nobody took them.")
LAG: Final = _gauge(
    "event_loop_lag_seconds",
    "How long work that was ready had to wait at the scrape.",
    merge=Merge.MAX,
)
TASKS: Final = _gauge("tasks", "Tasks of the event loop; more and more of them are a leak.")
WORKERS: Final = _gauge("workers", "Workers that serve; only with several.")
WORKERS_REPLACED: Final = _counter(
    "workers_replaced", "Workers that ended early; only with several."
)
WORKER_CONNECTIONS: Final = _gauge(
    "worker_connections", "Client connections of each worker; only with several.", "worker"
)


def _process(name: str, text: str, kind: MetricKind = MetricKind.GAUGE) -> MetricFamily:
    return _family(f"process_{name}", kind, text, merge=Merge.EACH)


PROCESS: Final = (
    _process("cpu_seconds", "Total user and system CPU time spent in seconds.", MetricKind.COUNTER),
    _process("virtual_memory_bytes", "Virtual memory size in bytes."),
    _process("resident_memory_bytes", "Resident memory size in bytes."),
    _process("start_time_seconds", "Start time of the process since unix epoch in seconds."),
    _process("open_fds", "Number of open file descriptors."),
    _process("max_fds", "Maximum number of open file descriptors."),
)
"""What prometheus_client tells of each process (`ProcessCollector`)."""

FAMILIES: Final = MappingProxyType({one.name: one for one in _made})
"""All of them by name, in the order in which they stand here."""
