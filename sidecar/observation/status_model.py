"""What the document of the admin page, `/status.json`, says: its panels as frozen values.

Times are Unix seconds, durations milliseconds unless a name says otherwise, and lists begin with
the oldest. Several workers' documents are merged into one of the same form
(`sidecar.observation.status_merge`). No member holds a token, the value of a cookie or a query.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

FORMAT: Final = 1
"""Grows if a member changes its meaning or goes."""
WINDOW: Final = 900
"""Seconds that are remembered."""
STEP: Final = 15
"""Seconds of one bucket of the series below."""
STEPS: Final = WINDOW // STEP

State: TypeAlias = Literal["well", "degraded", "down", "draining"]

Series: TypeAlias = tuple[int, ...]
"""A count for each bucket; the last one is still being filled.

A series of `STEPS` ends at `Traffic.until`, one of `WINDOW` seconds at `Traffic.until_second`.
"""


# -- verdict -----------------------------------------------------------------------------------


class Symptom(msgspec.Struct, frozen=True):
    """One thing that is not well, in words. `panel` is where to read on."""

    state: State
    panel: str
    text: str
    since: float | None = None


class StatusVerdict(msgspec.Struct, frozen=True):
    """One sentence, made of facts alone: how long it has served, and what is not well."""

    state: State
    text: str
    since: float
    symptoms: tuple[Symptom, ...] = ()


class ReloadRow(msgspec.Struct, frozen=True):
    """The last reload. `outcome` is `reloaded` or `refused`; `detail` names the faults, or keys
    that take a restart.
    """

    at: float
    outcome: str
    detail: str = ""


class WorkerRow(msgspec.Struct, frozen=True):
    """One process that serves."""

    number: int
    pid: int
    started_at: float
    answers: bool = True
    is_ready: bool = True
    connections: int = 0
    requests: int = 0


class WarningRow(msgspec.Struct, frozen=True):
    """The last line of one event that was logged as a warning or an error, and how many."""

    event: str
    level: str
    detail: str
    at: float
    count: int


class Process(msgspec.Struct, frozen=True):
    """The program and its configuration. `log_level_until` is None if the level stays."""

    version: str
    started_at: float
    config_hash: str
    config_loaded_at: float
    config_warnings: tuple[str, ...]
    is_draining: bool
    log_level: str
    log_level_until: float | None
    log_lines_lost: int
    last_reload: ReloadRow | None
    workers: tuple[WorkerRow, ...]
    certificates: dict[str, float]
    """When the certificates end that are presented here, and those of clients' authorities."""
    workers_replaced: int = 0


# -- traffic -----------------------------------------------------------------------------------


class Latency(msgspec.Struct, frozen=True):
    """A distribution: `counts` by `Traffic.bounds_ms`, the last above all bounds; and what follows
    of it, None without a request.
    """

    counts: Series
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    seconds: float
    """All of it together."""


class InFlightRow(msgspec.Struct, frozen=True):
    """How many of one kind are under way, and may be."""

    kind: str
    now: int
    limit: int


class RouteRow(msgspec.Struct, frozen=True):
    """One route in the window. `requests` and `errors` (5xx) are series of `STEP` seconds."""

    route: str
    upstream: str
    requests: Series
    errors: Series
    total: int
    statuses: dict[str, int]
    """By class: `2xx`, `3xx`, `4xx`, `5xx`."""
    decisions: dict[str, int]
    latency: Latency
    upstream_latency: Latency


class Traffic(msgspec.Struct, frozen=True):
    """Requests of the window. The series by second have `WINDOW` places, the others `STEPS`."""

    until: float
    """The end of the last bucket of every series of steps in the document."""
    until_second: float
    step: int
    bounds_ms: tuple[float, ...]
    per_second: float
    """Requests a second in the last minute."""
    requests_by_second: Series
    errors_by_second: Series
    p50: tuple[float | None, ...]
    p95: tuple[float | None, ...]
    p99: tuple[float | None, ...]
    upstream_p95: tuple[float | None, ...]
    latency_by_step: tuple[Series, ...]
    """For each step, how many requests were in each bucket of `bounds_ms`."""
    upstream_latency_by_step: tuple[Series, ...]
    latency: Latency
    upstream_latency: Latency
    upstream_share: float | None
    """Of the time of all requests, what the upstreams took: 0 to 1."""
    own_codes: dict[str, int]
    """The sidecar's own error responses by code."""
    in_flight: tuple[InFlightRow, ...]
    connections: InFlightRow
    routes: tuple[RouteRow, ...]


# -- upstreams ---------------------------------------------------------------------------------


class AddressRow(msgspec.Struct, frozen=True):
    """One server of an upstream. `resolved` are the addresses that its name stands for.

    `ejected_until` is None if it takes requests; `failures` are those in a row; `check` is the last
    result of its active check.
    """

    address: str
    resolved: tuple[str, ...] = ()
    resolved_at: float | None = None
    ejected_until: float | None = None
    ejections: int = 0
    failures: int = 0
    last_error: str | None = None
    last_error_at: float | None = None
    check: str | None = None


class UpstreamRow(msgspec.Struct, frozen=True):
    """One upstream. `busy` connections count against `limit`, `lent` ones (streams) do not.

    `failing_since`: since when every request has failed; None if the last one has not.
    `is_missing`: readiness depends on it, and it cannot be reached now.
    """

    name: str
    origin: str
    addresses: tuple[AddressRow, ...]
    idle: int
    busy: int
    lent: int
    waiting: int
    limit: int
    retries: int
    errors: dict[str, int]
    """In the window, by cause in words, such as `connection refused`."""
    requests_failed: int
    failing_since: float | None
    last_error: str | None
    last_error_at: float | None
    certificate_days_left: float | None
    latency: Latency
    is_missing: bool = False


# -- sessions ----------------------------------------------------------------------------------


class SessionEvent(msgspec.Struct, frozen=True):
    """What happened to a session. `kind` is login, opened (first seen in this process), renewed,
    renewal_failed, rejected, ended, or missing: cookies hold none for a request that needs one.
    `reason` says why.
    """

    at: float
    kind: str
    session: str | None
    reason: str = ""
    request_id: str | None = None
    route: str | None = None
    method: str | None = None
    path: str | None = None
    source: str | None = None
    status: int | None = None
    detail: str = ""


class Ended(msgspec.Struct, frozen=True):
    """Sessions that ended: by reason, as series of `STEP` seconds, and the last ones.

    Beside the reasons for which sessions end there are results of reading (expired, invalid,
    token_missing, bad_token): requests that needed a session, and whose cookies hold none.
    """

    by_reason: dict[str, Series]
    totals: dict[str, int]
    last: tuple[SessionEvent, ...]


class FailingExample(msgspec.Struct, frozen=True):
    """The first Cookie header of a source that failed, as `sidecar explain` words it: names of
    cookies and claims, never a value.
    """

    at: float
    result: str
    cookie: str | None
    chunks: int
    header_bytes: int
    why: str


class SourceRow(msgspec.Struct, frozen=True):
    """Cookie headers that were read anew since the start, by what the source made of them."""

    source: str
    type: str
    results: dict[str, int]
    """ok, expired, invalid, token_missing, bad_token."""
    has_opened: bool
    example: FailingExample | None = None


class Sessions(msgspec.Struct, frozen=True):
    """What the session cookies hold, and what lasts. `cached`: Cookie headers remembered."""

    sources: tuple[SourceRow, ...]
    cached: int
    tombstones: int
    websockets: int
    event_streams: int
    logins: dict[str, int]
    backchannel_logouts: dict[str, int]
    logouts: dict[str, int]


# -- renewals, provider, store -----------------------------------------------------------------


class Renewals(msgspec.Struct, frozen=True):
    """Exchanges of refresh tokens; series of `STEP` seconds by outcome (renewed, refused,
    unavailable). None in `Status` if nothing is renewed.
    """

    by_outcome: dict[str, Series]
    totals: dict[str, int]
    latency: Latency
    under_way: int
    waiting: int
    """Requests that wait for one now."""
    waited: int
    """Requests that have waited for one, in the window."""
    late_served: int
    """Requests with an old token that were given its successor, in the window."""
    is_paused: bool
    """Several in a row got no answer: one at a time is tried."""
    last_error: str | None
    last_error_at: float | None


class FetchedRow(msgspec.Struct, frozen=True):
    """The provider's metadata or keys, as they are remembered."""

    fetched_at: float | None
    last_error: str | None
    last_error_at: float | None


class ProviderRow(msgspec.Struct, frozen=True):
    """The identity provider."""

    issuer: str | None
    metadata: FetchedRow
    keys: FetchedRow


class StoreRow(msgspec.Struct, frozen=True):
    """The store. `round_trip` and `is_up` are of a question that was asked for this document."""

    kind: str
    is_shared: bool
    is_up: bool
    round_trip: float | None
    operations: int
    errors: int
    last_error: str | None
    last_error_at: float | None
    entries: int | None
    size: int | None
    """Bytes; None if that is not known."""
    fill: float | None
    """0 to 1; None if the store has no bound of its own."""
    may_evict: bool
    """Whether Redis may drop sessions to make room."""
    pending: dict[str, int]
    """What it has not taken yet, by kind: `death` are logouts that others do not know."""
    losses: int


# -- refused, trouble --------------------------------------------------------------------------


class RefusedRow(msgspec.Struct, frozen=True):
    """One request that was refused. Which members are there depends on `code`:

    csrf_rejected: `origin` seen, `allowed`; overloaded and rate_limited: `detail` names the budget;
    headers_too_large: `header_bytes`, and `cookies` by size, the largest first.
    """

    at: float
    request_id: str
    status: int
    code: str
    route: str
    method: str | None
    path: str | None
    detail: str
    session: str | None = None
    client: str | None = None
    origin: str | None = None
    allowed: tuple[str, ...] = ()
    header_bytes: int | None = None
    cookies: tuple[tuple[str, int], ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """The last of each status (403, 429, 431, 503), and how many in the window by code."""

    totals: dict[str, int]
    last: tuple[RefusedRow, ...]


class TroubleRow(msgspec.Struct, frozen=True):
    """A request that failed: 5xx, or a response that broke off."""

    at: float
    request_id: str
    status: int
    upstream_status: int | None
    code: str
    cause: str
    route: str
    upstream: str | None
    method: str | None
    path: str | None
    milliseconds: float
    session: str | None = None


# -- configuration -----------------------------------------------------------------------------


class KeyRow(msgspec.Struct, frozen=True):
    """One key that holds. Secrets are shown as their length."""

    key: str
    value: Any
    origin: str


class KeyDifference(msgspec.Struct, frozen=True):
    """A key whose value on disk is another one. None: it is not there."""

    key: str
    running: Any
    on_disk: Any


class Configuration(msgspec.Struct, frozen=True):
    """What runs, and how the file on disk differs from it; `faults` of the file, if it has any."""

    keys: tuple[KeyRow, ...]
    differences: tuple[KeyDifference, ...]
    faults: tuple[str, ...]


class Status(msgspec.Struct, frozen=True):
    """The whole document. `renewals` and `provider` are None if nothing is configured for them."""

    format: int
    now: float
    window: int
    verdict: StatusVerdict
    process: Process
    warnings: tuple[WarningRow, ...]
    traffic: Traffic
    upstreams: tuple[UpstreamRow, ...]
    ended: Ended
    sessions: Sessions
    renewals: Renewals | None
    provider: ProviderRow | None
    store: StoreRow
    refused: Refused
    trouble: tuple[TroubleRow, ...]


class Story(msgspec.Struct, frozen=True):
    """What is known of one session, oldest first: of `/session?id=`."""

    session: str | None
    events: tuple[SessionEvent, ...]
    trouble: tuple[TroubleRow, ...]
    refused: tuple[RefusedRow, ...]
