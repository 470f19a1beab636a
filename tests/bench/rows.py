"""Everything that is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.bench import costs, growth, quotas, wires
from tests.bench.contenders import DIRECT
from tests.bench.load import RENEWABLE, Load
from tests.bench.samples import Ask
from tests.bench.servers import BESIDE
from tests.bench.sidecars import DEFAULT, NO_LOG, OWN_LOGINS, ROUTES, WORKERS
from tests.bench.stage import Entry, Row, Take
from tests.bench.upstream import EVENT

BASELINE: Final = "nginx"
_PROXIES: Final = ("nginx", "Caddy", DEFAULT)


def _all(take: Take, names: Iterable[str] = BESIDE) -> Mapping[str, Entry]:
    return {name: Entry(name, take) for name in names}


_1K: Final = Load(Ask("/1k.json"))

LOADS: Final[Mapping[str, Row]] = {
    "1k-32": Row("1 KB, 32 connections", _all(_1K), BASELINE),
    "1k-1": Row(
        "1 KB, 1 connection",
        _all(Load(Ask("/1k.json"), connections=1), (DIRECT, *BESIDE)),
        BASELINE,
    ),
    "64k": Row("64 KB, 32 connections", _all(Load(Ask("/64k.json"))), BASELINE),
    "1m": Row("1 MB, 4 connections", _all(Load(Ask("/1m.json"), connections=4)), BASELINE),
}

_POST: Final = Load(
    Ask("/1k.json", "POST", {"Content-Type": "application/json"}, "{}" + " " * 1022)
)
_64K: Final = Load(Ask("/64k.json"))
_GZIP: Final = Load(Ask("/64k.json", fields={"Accept-Encoding": "gzip"}))
_EACH_NEW: Final = Load(Ask("/1k.json"), each_new=True)
_DOCUMENT: Final = {
    "Accept": "text/html",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
_GONE: Final = "/gone"  # where the upstream says 401
_PLAIN: Final = "plain cookie"

FEATURES: Final[Mapping[str, Row]] = {
    "switches": Row(
        "1 KB",
        {
            "as it comes": Entry(DEFAULT, _1K),
            "log off": Entry(NO_LOG, _1K),
            "no envelope": Entry("no envelope", _1K),
            "POST of 1 KB": Entry(DEFAULT, _POST),
            "two workers": Entry("two workers", _1K),
        },
        "as it comes",
    ),
    "sessions": Row(
        "1 KB, by its session",
        {
            "Auth.js v5": Entry(DEFAULT, _1K),
            "none wanted": Entry("no session", _1K),
            "plain cookie": Entry(_PLAIN, _1K),
            "next-auth v4": Entry("next-auth v4 cookie", _1K),
            **_all(_1K, OWN_LOGINS),
            "plain cookie, 256 by turns": Entry(_PLAIN, Load(Ask("/1k.json"), sessions=256)),
            "plain cookie, each request another": Entry(_PLAIN, _EACH_NEW),
        },
        "Auth.js v5",
    ),
    "gzip": Row(
        "64 KB",
        {"as it comes": Entry(DEFAULT, _64K), "compressed": Entry(DEFAULT, _GZIP)},
        "as it comes",
    ),
    "logout": Row(
        "each request another session",
        {
            "200 of 1 KB": Entry(_PLAIN, _EACH_NEW),
            "401 of the upstream: 303 to the logout": Entry(
                _PLAIN, Load(Ask(_GONE, fields=_DOCUMENT, status=303), each_new=True)
            ),
            "401, renewal, and once more": Entry(
                "renewed tokens", Load(Ask("/renewed"), each_new=True, cookie=RENEWABLE)
            ),
            "logout": Entry(
                _PLAIN, Load(Ask("/logout", "POST", _DOCUMENT, status=303), each_new=True)
            ),
        },
        "200 of 1 KB",
    ),
}

_WIRES: Final = ("nginx", "HAProxy", "Caddy", "oauth2-proxy", DEFAULT)

WIRES: Final[Mapping[str, Row]] = {
    "messages": Row(
        f"WebSocket message of {len(wires.MESSAGE)} bytes, {wires.SOCKETS} sockets",
        _all(wires.messages, _WIRES),
        BASELINE,
    ),
    "events": Row(
        f"event of {len(EVENT)} bytes, {wires.STREAMS} streams with {1000 // wires.PAUSE} a second",
        _all(wires.events, _WIRES),
        BASELINE,
    ),
}

GROWTH: Final[Mapping[str, Row]] = {
    "workers": Row(
        f"workers, each with {quotas.SHARE:.0%} of a processor",
        {str(count): Entry(name, growth.within_shares) for name, count in WORKERS.items()},
        "1",
    ),
    "routes": Row(
        "routes",
        {"2": Entry(DEFAULT, _1K), **{f"{ROUTES[name]:,}": Entry(name, _1K) for name in ROUTES}},
        "2",
    ),
    "seen": Row(
        "sessions seen",
        {
            f"{count:,}": Entry("plain cookie, log off", growth.after_sessions(count))
            for count in (1, 1_000, 100_000, 1_000_000)
        },
        "1",
    ),
    "open": Row(
        "open idle connections",
        {
            f"{count:,}": Entry(DEFAULT, growth.beside_connections(count))
            for count in (1, 100, 1_000, 5_000)
        },
        "1",
    ),
}


def _held(what: str, ask: Ask, count: int, target: str = "") -> Row:
    entries = _all(costs.held(ask, count), _PROXIES)
    return Row(f"{what}, of {count:,}", entries, BASELINE, "KB", target, once=True)


def _large(what: str, transfer: costs.Transfer, names: Iterable[str] = _PROXIES) -> Row:
    entries = _all(costs.growth(transfer), names)
    return Row(f"100 MB {what}, peak growth", entries, DEFAULT, "MiB", "≤ 20 MiB", once=True)


COSTS: Final[Mapping[str, Row]] = {
    "start": Row("cold start to the first answer", _all(costs.start), BASELINE, "ms", "< 300 ms"),
    "rest": Row("memory of a process", _all(costs.at_rest), BASELINE, "MiB", once=True),
    "idle": _held("idle connection", costs.IDLE, 2000, "≤ 8 KB"),
    "stream-open": _held("open event stream", costs.STREAM, 1000),
    "socket-open": _held("open WebSocket", costs.SOCKET, 1000),
    "download": _large("download", costs.download),
    "upload": _large("upload", costs.upload),
    "stream": _large("enveloped stream", costs.stream, (DEFAULT,)),
}

ROWS: Final[Mapping[str, Row]] = {**LOADS, **WIRES, **FEATURES, **GROWTH, **COSTS}
