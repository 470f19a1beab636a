"""What the sidecar asks by itself, through a proxy that fails: nothing of it gets out (T46)."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.leaks.canaries import Sought, canary
from tests.leaks.cast import Cast, playing
from tests.leaks.site import DOCUMENT, running
from tests.leaks.test_leaks import admin_and_commands, leaks

PROXY: Final = "proxy"
"""All that the proxy was sent."""
KINDS: Final = (
    *("secret", "proxy password", "plain token", "refresh token", "own", "query", "form"),
    *("hook path", "hook query", "hook field", "renewal query", "renewal field", "renewal member"),
    *("key query", "trace query"),
)
ALLOWED: Final = {
    "plain token": frozenset(("upstream", PROXY)),
    "refresh token": frozenset(("upstream", PROXY)),  # where all passes as it came
    "own": frozenset(("upstream",)),
    "query": frozenset(("upstream",)),
    "form": frozenset(("upstream",)),
    "proxy password": frozenset((PROXY,)),
} | {kind: frozenset((PROXY,)) for kind in KINDS if kind.startswith(("hook", "renewal", "key"))}
ALLOWED["trace query"] = frozenset((PROXY,))


def of_renewal(away: str, known: dict[str, str]) -> dict[str, Any]:
    request = {
        "url": f"{away}/renew?k={known['renewal query']}",
        "headers": {"X-Key": known["renewal field"]},
        "json": {"token": "{refresh_token}", "key": known["renewal member"]},
    }
    return {"refresh": {"type": "http", "request": request}}


def of_login(away: str, known: dict[str, str]) -> dict[str, Any]:
    client = {"client_id": "app", "client_secret": known["secret"]}
    return {"oidc": {"issuer": f"{away}/idp", **client}}


def configuration(cast: Cast, known: dict[str, str], *, has_login: bool) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main"}
    away = "http://127.0.0.1:1"
    return {
        "secret": known["secret"],
        "upstreams": {"main": {"url": cast.url, "retry": "0s"}},
        "routes": [
            {"path": "/seen/", **api, "session": "required", "observe": True},
            {"path": "/need/", **api, "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "session": {
            "sources": [
                {
                    "type": "jwt",
                    "cookie": "signed",
                    "jwks": f"{away}/keys?k={known['key query']}",
                    "token": "t",
                },
                {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"},
            ]
        },
        **(of_login(away, known) if has_login else of_renewal(away, known)),
        "logout": {
            "redirect_to": "/",
            "hooks": [
                {
                    "url": f"{away}/{known['hook path']}?k={known['hook query']}",
                    "headers": {"X-Key": known["hook field"]},
                    "token": True,
                }
            ],
        },
        "tracing": {"endpoint": f"{away}/v1/traces?k={known['trace query']}"},
        "drain": {"wait": "0s"},
    }


@pytest.mark.parametrize("has_login", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
async def test_failures_of_its_own_requests_show_nothing_of_them(
    tmp_path: Path, *, is_there: bool, has_login: bool
) -> None:
    """Beside requests on a route that is only observed, in `sidecar tail` and `/tail` as well."""
    known = {kind: canary(kind.replace(" ", "")) for kind in KINDS}
    header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.c2lnbmVk"  # of a key that must be asked for
    async with playing() as cast, playing() as proxy:
        proxy.echoes = True
        port = proxy.port if is_there else 1
        config = configuration(cast, known, has_login=has_login)
        config["log"] = {"level": "debug", "format": "console" if has_login else "json"}
        environ = {"http_proxy": f"http://user:{known['proxy password']}@127.0.0.1:{port}"}
        cookie = f"access_token={known['plain token']}; refresh_token={known['refresh token']}"
        own = {"Authorization": f"Bearer {known['own']}"}
        async with running(tmp_path, config, environ) as one, one.following("--json"):
            async with one.following():
                for path in ("/seen/x", "/seen/unauthorized", "/need/x", "/page"):
                    for given in (cookie, f"{cookie}; signed={header}", "a=b"):
                        await one.ask(
                            "POST",
                            f"{path}?k={known['query']}",
                            headers={**own, "Cookie": given},
                            data={"k": known["form"]},
                            sink="" if "unauthorized" in path else "client",
                        )
                await one.ask("GET", "/need/unauthorized", headers={"Cookie": cookie})
                await one.ask("GET", "/auth/login?next=/x", headers=DOCUMENT)
                await one.ask("POST", "/api/logout", headers={"Cookie": cookie})
            await one.logs("tracing")
            await admin_and_commands(one, cookie)
            assert one.process is not None
            one.file.write_text(json.dumps({**one.config, "tracing": {"endpoint": "CANARY"}}))
            one.process.send_signal(signal.SIGHUP)
            await one.logs("reload refused")
            one.write()
            one.collect()
    sinks = {**one.sinks, "upstream": cast.heard.get("upstream", b"")}
    sinks[PROXY] = b"".join(proxy.heard.values())
    assert len(sinks["sidecar tail"]) > 1000
    if is_there:
        sent = ("hook path", "key query", "trace query")
        for kind in sent if has_login else (*sent, "renewal field", "renewal member"):
            assert Sought(kind, known[kind]).context(sinks[PROXY]), kind
    found = leaks(known, sinks, ALLOWED)
    assert not found, "\n".join(found)
