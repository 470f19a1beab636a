"""The sidecar as its defaults have it, and with one thing changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.bench import pythons, quotas
from tests.bench.contenders import Body, Contender, Cookies, lacks
from tests.bench.faults import BenchError
from tests.bench.logins import (
    CLIENT_ID,
    CLIENT_SECRET,
    SIDECAR_LOGIN,
    provider,
    provider_and_redis,
)
from tests.bench.site import HOST, ROOT, Place, Session, auth_js, next_auth, plain

DEFAULT: Final = "sidecar"
NO_LOG: Final = "sidecar, log off"

Settings: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Settings, Place], None]


def _settings(place: Place) -> Settings:
    """Only what has no default."""
    return {
        "listen": f"{HOST}:{place.port}",
        "admin": f"{HOST}:{place.admin}",
        "core_dumps": True,  # its memory is looked at
        "upstreams": {"api": {"url": f"http://{HOST}:{place.site.upstream}"}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "api"},
            {"path": "/", "kind": "page", "upstream": "api"},
        ],
        "session": {"sources": [{"type": "authjs", "secret": place.site.login.secret}]},
    }


def _command(place: Place, *, change: Change, python: Callable[[], object]) -> Sequence[str]:
    settings = _settings(place)
    change(settings, place)
    file = place.folder / "sidecar.yaml"
    file.write_text(json.dumps(settings))  # YAML holds JSON
    command = str(python())
    _compile(command)
    return [command, "-m", "sidecar", "run", "-c", str(file)]


@cache
def _compile(python: str) -> None:
    """Makes the bytecode that installers and the image make, even where the environment has none
    written: without it, a third of a start is the compiler's.
    """
    made = subprocess.run([python, "-m", "compileall", "-q", str(ROOT / "sidecar")], check=False)
    if made.returncode:
        raise BenchError(f"{python} cannot compile the sidecar")


def sidecar(
    change: Change = lambda _settings, _place: None,
    *,
    python: Callable[[], object] = lambda: sys.executable,
    missing: Callable[[], str | None] = lambda: None,
    build: Callable[[], Path] | None = None,
    body: Body = Body.SPLICED,
    with_token: bool = True,
    beside: Callable[[ExitStack, Place], Place] = lambda _, place: place,
    session: Callable[[Place], Session] = auth_js,
) -> Contender:
    """The sidecar with something changed."""
    return Contender(
        "session, envelope",
        partial(_command, change=change, python=python),
        missing=missing,
        build=build,
        body=body,
        cookies=Cookies.STRIPPED,
        token="authorization" if with_token else None,
        beside=beside,
        session=session,
        cwd=ROOT,
    )


# -- changes ------------------------------------------------------------------------------------


def _set(**keys: Any) -> Change:
    """Other keys at the top."""
    return lambda settings, _: settings.update(keys)


def _route(**keys: Any) -> Change:
    """Other keys of the route."""
    return lambda settings, _: settings["routes"][0].update(keys)


def _next_auth(settings: Settings, _: Place) -> None:
    settings["session"]["sources"][0]["type"] = "nextauth"


def _plain(settings: Settings, _: Place) -> None:
    """Without log and brake: what is measured is a million sessions, or a logout of each."""
    settings["session"]["sources"] = [{"type": "cookie", "cookie": "access_token"}]
    settings["unauthorized"] = {"brake": None}


def _plain_no_log(settings: Settings, place: Place) -> None:
    _plain(settings, place)
    settings["log"] = {"access": False}


def _renewed(settings: Settings, place: Place) -> None:
    """Tokens that the upstream does not take are renewed there."""
    _plain(settings, place)
    settings["session"]["sources"][0]["refresh_cookie"] = "refresh_token"
    asked = {"url": f"http://{HOST}:{place.site.upstream}/token"}
    settings["refresh"] = {"type": "http", "request": asked | {"json": {"t": "{refresh_token}"}}}


def _login(keep: str, store: str) -> Change:
    """The sidecar's own login; the store's URL may name `{folder}` and `{redis}`."""

    def change(settings: Settings, place: Place) -> None:
        assert place.idp is not None
        del settings["session"]
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        scopes = ["openid", "profile", "email", "offline_access"]
        settings["oidc"] = {"issuer": place.idp.issuer, "keep": keep, "scopes": scopes, **client}
        settings["secret"] = place.site.login.secret
        settings["store"] = {"url": store.format(folder=place.folder, redis=place.redis)}

    return change


def _many_routes(count: int) -> Change:
    """So many more than two, none of which is the one that is asked for."""

    def change(settings: Settings, _: Place) -> None:
        first = settings["routes"][0]
        settings["routes"] += [first | {"path": f"/api/part{number}/"} for number in range(count)]

    return change


def _login_sidecar(
    keep: str,
    store: str,
    beside: Callable[[ExitStack, Place], Place] = provider,
    missing: Callable[[], str | None] = lambda: None,
) -> Contender:
    return sidecar(_login(keep, store), beside=beside, missing=missing, session=SIDECAR_LOGIN)


WORKERS: Final = {"workers: 1": 1, "workers: 2": 2, "workers: 3": 3}
_no_log: Final = _set(log={"access": False})


def _of_image(change: Change) -> Contender:
    """By the Python that the image has."""
    return sidecar(change, python=pythons.interpreter, missing=pythons.missing, build=pythons.build)


ROUTES: Final = {f"{count:,} more routes": count for count in (10, 100, 1000)}
OWN_LOGINS: Final = ("own login, in the cookie", "own login, in SQLite", "own login, in Redis")
IMAGE_PYTHON: Final = f"sidecar, Python {pythons.image_version()}"
IMAGE_PYTHON_NO_LOG: Final = f"{IMAGE_PYTHON}, log off"

SIDECARS: Final[Mapping[str, Contender]] = {
    DEFAULT: sidecar(),
    NO_LOG: sidecar(_no_log),
    "no envelope": sidecar(_route(envelope=False), body=Body.AS_IT_IS),
    "no session": sidecar(_route(session="none"), with_token=False),
    "next-auth v4 cookie": sidecar(_next_auth, session=next_auth),
    "plain cookie": sidecar(_plain, session=plain),
    "plain cookie, log off": sidecar(_plain_no_log, session=plain),
    "renewed tokens": sidecar(_renewed, session=plain),
    OWN_LOGINS[0]: _login_sidecar("cookie", "memory:"),
    OWN_LOGINS[1]: _login_sidecar("store", "sqlite://{folder}/sessions.db"),
    OWN_LOGINS[2]: _login_sidecar(
        "store",
        "redis://127.0.0.1:{redis}/0",
        provider_and_redis,
        lambda: "apt-get install redis-server" if lacks("redis-server") else None,
    ),
    "two workers": sidecar(_set(workers=2)),
    **{
        name: sidecar(_set(workers=count), missing=quotas.missing)
        for name, count in WORKERS.items()
    },
    IMAGE_PYTHON: _of_image(_set()),
    IMAGE_PYTHON_NO_LOG: _of_image(_no_log),
    **{name: sidecar(_many_routes(count)) for name, count in ROUTES.items()},
}
