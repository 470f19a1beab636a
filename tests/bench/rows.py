"""Everything that is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.bench import costs
from tests.bench.contenders import DIRECT, Body
from tests.bench.load import Load
from tests.bench.samples import Ask
from tests.bench.servers import BESIDE
from tests.bench.sidecars import DEFAULT, NO_LOG
from tests.bench.stage import Entry, Row, Take

BASELINE: Final = "nginx"
_PROXIES: Final = ("nginx", "Caddy", DEFAULT)
_ENVELOPES: Final = [name for name in BESIDE if BESIDE[name].body is not Body.AS_IT_IS]


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

FEATURES: Final[Mapping[str, Row]] = {
    "features": Row(
        "1 KB, 32 connections",
        {
            "as it comes": Entry(DEFAULT, _1K),
            "log off": Entry(NO_LOG, _1K),
            "no envelope": Entry("no envelope", _1K),
            "no session": Entry("no session", _1K),
        },
        "as it comes",
    ),
}

COSTS: Final[Mapping[str, Row]] = {
    "start": Row("cold start to the first answer", _all(costs.start), BASELINE, "ms", "< 500 ms"),
    "rest": Row("memory of a process", _all(costs.at_rest), BASELINE, "MiB", once=True),
    "idle": Row(
        f"idle connection, of {costs.IDLE:,}",
        _all(costs.idle_connection, _PROXIES),
        BASELINE,
        "KB",
        "≤ 10 KB",
        once=True,
    ),
    "download": Row(
        "100 MB download, peak memory growth",
        _all(costs.growth(costs.download), _PROXIES),
        BASELINE,
        "MiB",
        "≤ 20 MiB",
        once=True,
    ),
    "upload": Row(
        "100 MB upload, peak memory growth",
        _all(costs.growth(costs.upload), _PROXIES),
        BASELINE,
        "MiB",
        "≤ 20 MiB",
        once=True,
    ),
    "stream": Row(
        "100 MB enveloped stream, peak memory growth",
        _all(costs.growth(costs.stream), (DEFAULT,)),
        DEFAULT,
        "MiB",
        "≤ 20 MiB",
        once=True,
    ),
}

ROWS: Final[Mapping[str, Row]] = {**LOADS, **FEATURES, **COSTS}
