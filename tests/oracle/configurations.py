"""Random configurations: a base, and some keys set to values that each of them may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any, Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

SECRET: Final = "a secret of the library, 32 bytes or more"
RAW: Final = {"type": "cookie", "cookie": "access_token"}
API, PAGE, LOGIN, OPEN = range(4)  # routes of the base


def base(url: str) -> dict[str, Any]:
    """Pages and an API behind one server, with two kinds of sessions."""
    return {
        "upstreams": {"api": {"url": url}, "frontend": {"url": url}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"},
            {"path": "/", "kind": "page", "upstream": "frontend"},
            {"path": "/api/login", "kind": "api", "upstream": "api", "session": "none"},
            {"path": "/open/", "kind": "api", "upstream": "api", "session": "optional"},
        ],
        "session": {"sources": [{"type": "authjs", "secret": SECRET, "token": "accessToken"}, RAW]},
    }


def _routes(key: str, *values: object) -> dict[Path, Sequence[object]]:
    return {("routes", at, key): values for at in (API, PAGE, LOGIN, OPEN)}


MATCH: Final = {"path": "errors.*.extensions.code", "equals": "UNAUTHENTICATED"}
CHOICES: Final[Mapping[Path, Sequence[object]]] = {
    ("public_url",): ("https://app.example.com", "http://app.example.com:8080"),
    ("trusted_proxies",): (["127.0.0.1"], ["unix"], ["::ffff:127.0.0.1", "10.0.0.0/8"]),
    **_routes("session", "required", "optional", "none"),
    **_routes("inject", True, False),
    **_routes("cookies", "strip", "forward"),
    **_routes("envelope", True, False, {"keep": ["meta"]}, {"buffer": "1KiB"}),
    **_routes("on_unauthorized", "logout", "envelope", "pass"),
    **_routes("errors", "envelope", "problem", "graphql"),
    **_routes("authorization", "pass", "session"),
    **_routes("sources", ["access_token"], ["authjs.session-token"]),
    **_routes("observe", True),
    **_routes("host", "internal.example"),
    **_routes("headers", {"drop": ["X-Own"], "pass": ["X-User"]}, {"X-User": "claim.sub"}),
    **_routes("allow", [{"claim": "groups", "any": ["staff"]}]),
    ("session", "sources"): (
        [RAW],
        [{**RAW, "refresh_cookie": "refresh_token"}],
        [{**RAW, "same_site": "none", "partitioned": True, "domain": "example.com"}],
        [{"type": "iron-session", "cookie": "app", "password": SECRET, "token": "t"}, RAW],
        [{"type": "auth0", "secret": SECRET}, {"type": "better-auth", "secret": SECRET}],
        [{"type": "jwt", "cookie": "access_token", "secret": SECRET, "token": "t"}],
        [{"type": "nextauth", "secret": [SECRET, "an older one"], "token": "a.b"}, RAW],
    ),
    ("unauthorized", "status"): ([401, 419], [403], []),
    ("unauthorized", "messages"): ([], ["UnAuthentication", "jwt expired"]),
    ("unauthorized", "match"): ([MATCH], [{"path": "code", "equals": 40101}]),
    ("unauthorized", "brake"): (None, {"sessions": 2}),
    ("bridge", "hold"): ("0s", "100ms"),
    ("logout", "path"): ("/logout", "/auth/out/"),
    ("logout", "redirect_to"): ("/login", "/en/login", "https://login.example.com/x"),
    ("logout", "allowed_origins"): (["https://login.example.com"],),
    ("logout", "cookies"): (["access_token"], ["app", "authjs.session-token"], []),
    ("logout", "domains"): (["example.com"], ["example.com", "app.example.com"]),
    ("logout", "paths"): (["/", "/app"],),
    ("logout", "return_param"): ("next", "returnTo"),
    ("csrf",): ({"enabled": False}, {"header": "X-CSRF"}),
    ("cors", "origins"): (["https://other.example.com"],),
    ("envelope",): (
        {"compress": "never"},
        {"buffer": "512B"},
        {"failure": [{"path": "code", "not": [0, 200]}]},
        {"data": "result", "message": ["error", "text"], "error_data": "error"},
    ),
    ("limits", "header"): ("8KiB",),
    ("limits", "body"): ("1KiB",),
    ("limits", "in_flight"): ({"api": 1}, {"page": 1, "stream": 1}),
    ("limits", "connections"): (4,),
    ("limits", "per_client"): ({"login": "5/m"},),
    ("log",): (
        {"level": "debug"},
        {"format": "console"},
        {"access": False},
        {"mask": ["/api/*"], "access": {"min_status": 400, "sample": 0.5}},
    ),
    ("upstreams", "api", "retry"): ("0s", "2s"),
    ("upstreams", "api", "ejection"): (None, {"failures": 1}),
    ("upstreams", "api", "pool"): ({"max": 1}, {"idle": "1s", "max_age": "1s"}),
    ("upstreams", "api", "check"): ({"path": "/health"},),
    ("upstreams", "api", "host"): ("api.internal",),
    ("upstreams", "api", "ready"): (True,),
    ("store", "url"): ("memory:",),
    ("store", "ready"): (False,),
}


def configuration(seed: int, url: str) -> dict[str, Any]:
    """The configuration of a seed, in front of the server at `url`."""
    chance = Random(seed)
    made = base(url)
    for path in chance.sample([*CHOICES], chance.randrange(10)):
        at: Any = made
        for part in path[:-1]:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        at[path[-1]] = deepcopy(chance.choice(CHOICES[path]))
    return made
