"""The usual solution: a route handler of Next.js, the app of tests/e2e."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.contenders import Body, Contender, Cookies, lacks, program
from tests.bench.faults import BenchError
from tests.bench.site import HOST, Place
from tests.e2e.servers import APPS, NEXT, BuildFailed, build_one, is_built

APP: Final = "route-handler"


def _command(place: Place) -> Sequence[str]:
    return [program("node"), str(NEXT), "start", "-H", HOST, "-p", str(place.port)]


def _environ(place: Place) -> Mapping[str, str]:
    return {
        "NODE_ENV": "production",
        "NEXT_TELEMETRY_DISABLED": "1",
        "AUTH_SECRET": place.site.login.secret,
        "AUTH_TRUST_HOST": "true",
        "API_URL": f"http://{HOST}:{place.site.upstream}/api",
    }


def _missing() -> str | None:
    if lacks("node", "npm"):
        return "apt-get install nodejs npm"
    return None if is_built(APP) else "python tests/bench --build"


def _build() -> Path:
    try:
        build_one(program("node"), program("npm"), APP)
    except BuildFailed as error:
        raise BenchError(str(error)) from error
    return APPS / APP


NEXT_JS: Final = Contender(
    "session, envelope",
    _command,
    missing=_missing,
    build=_build,
    body=Body.REWRITTEN,
    cookies=Cookies.DROPPED,
    token="authorization",
    base="/api/proxy",
    environ=_environ,
    cwd=APPS / APP,
    warm_ups=8,  # Node.js compiles while it serves
)
