"""The sidecar as its defaults have it, and with one thing changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, TypeAlias

from tests.bench.contenders import Body, Contender, Cookies
from tests.bench.site import HOST, ROOT, Place, Session, auth_js

DEFAULT: Final = "sidecar"
NO_LOG: Final = "sidecar, log off"

Settings: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Settings, Place], None]


def _settings(place: Place) -> Settings:
    """Only what has no default."""
    return {
        "listen": f"{HOST}:{place.port}",
        "admin": f"{HOST}:{place.admin}",
        "upstreams": {"api": {"url": f"http://{HOST}:{place.site.upstream}"}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "api"},
            {"path": "/", "kind": "page", "upstream": "api"},
        ],
        "session": {"sources": [{"type": "authjs", "secret": place.site.login.secret}]},
    }


def _command(place: Place, *, change: Change) -> Sequence[str]:
    settings = _settings(place)
    change(settings, place)
    file = place.folder / "sidecar.yaml"
    file.write_text(json.dumps(settings))  # YAML holds JSON
    return [sys.executable, "-m", "sidecar", "run", "-c", str(file)]


def sidecar(
    change: Change = lambda _settings, _place: None,
    *,
    body: Body = Body.SPLICED,
    with_token: bool = True,
    beside: Callable[[ExitStack, Place], Place] = lambda _, place: place,
    session: Callable[[Place], Session] = auth_js,
) -> Contender:
    """The sidecar with something changed."""
    return Contender(
        "session, envelope",
        partial(_command, change=change),
        body=body,
        cookies=Cookies.STRIPPED,
        token="authorization" if with_token else None,
        beside=beside,
        session=session,
        cwd=ROOT,
    )


def _log_off(settings: Settings, _: Place) -> None:
    settings["log"] = {"access": False}


def _no_envelope(settings: Settings, _: Place) -> None:
    settings["routes"][0]["envelope"] = False


def _no_session(settings: Settings, _: Place) -> None:
    settings["routes"][0]["session"] = "none"


SIDECARS: Final[Mapping[str, Contender]] = {
    DEFAULT: sidecar(),
    NO_LOG: sidecar(_log_off),
    "no envelope": sidecar(_no_envelope, body=Body.AS_IT_IS),
    "no session": sidecar(_no_session, with_token=False),
}
