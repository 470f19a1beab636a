"""A configuration is taken, or refused with the place of each fault; no secret is ever repeated."""

from __future__ import annotations

from typing import Final

from sidecar.core.config import Fault, load
from sidecar.core.errors import ConfigError
from tests.fuzz.target import Target

CANARY: Final = "canary-4711-canary-4711-canary-4711"
ENVIRON: Final = {"SECRET": CANARY, "EMPTY": "", "NUMBER": "7"}
MOST_FAULTS: Final = 100_000


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        load(text, source="file.yaml", environ=ENVIRON, read_file=_read_file)
    except ConfigError as error:
        assert 0 < len(error.faults) <= MOST_FAULTS
        for fault in error.faults:
            assert isinstance(fault, Fault)
            assert fault.problem
            assert fault.source
            assert fault.line is None or 1 <= fault.line <= text.count("\n") + text.count("\r") + 3
            assert CANARY not in str(fault), f"a secret is told: {fault}"


def _read_file(path: str) -> str:
    if path == "/secret":
        return CANARY
    raise FileNotFoundError(2, "No such file or directory")


FULL: Final = b"""\
listen: 127.0.0.1:8080
secret: ${SECRET}
upstreams: {api: {url: http://localhost:4000}, page: {urls: [http://a:1, http://b], connect: 2s}}
routes:
  - {path: /api/, kind: api, upstream: api, strip: /api, envelope: {failure: [{path: a, not: [0]}]}}
  - {path: /, kind: page, upstream: page, session: required, allow: [{email: a@example.com}]}
session:
  sources:
    - {type: authjs, secret: ${SECRET}, token: a.b, refresh_token: c, same_site: lax}
    - {type: iron-session, cookie: app, password: {"1": "${SECRET}"}}
    - {type: jwt, cookie: s, jwks: https://a.example.com/keys}
"""
OWN: Final = b"""\
upstream: http://localhost:4000
public_url: https://app.example.com
secret_file: /secret
oidc: {issuer: https://idp.example.com, client_id: app, client_secret: ${SECRET}, scopes: [openid]}
store: {url: "redis://:${SECRET}@localhost:6379/0"}
refresh: {leeway: 30s, grace: 1m}
logout: {domains: [example.com], paths: [/], hooks: [{url: http://localhost/h}]}
limits: {header: 64KiB, in_flight: {api: 10}}
cors: {origins: [https://a.example.com]}
trusted_proxies: [10.0.0.0/8, unix]
log: {level: info}
"""
TARGET: Final = Target(
    check,
    words=[
        *(b": ", b"\n  ", b"\n- ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"<<: *a", b"!!binary "),
        *(b"!!python/object:os.system ", b"---\n", b"...\n", b"|\n", b">-\n", b"? ", b"#", b"'"),
        *(
            b"${SECRET}",
            b"${UNSET}",
            b"${EMPTY:-a}",
            b"$${A}",
            b"${",
            b"%YAML 1.1\n",
            b"\xee\x80\xa0",
        ),
        *(b"listen", b"admin", b"upstream", b"routes", b"session", b"sources", b"secret_file"),
        *(b"/secret", b"0x1f", b"1e999", b".inf", b".nan", b"2020-01-01", b"null", b"true", b"12h"),
        *(b"redis+cluster://a:1,b", b"sqlite:///a", b"http://[::1", b"https://a:b@c/", b"1_000"),
        *(
            b"unauthorized",
            b"bridge",
            b"tracing",
            b"workers",
            b"auto",
            b"drain",
            b"csrf",
            b"outbound",
        ),
    ],
    seeds=[
        b"upstream: http://localhost:4000",
        FULL,
        OWN,
        b"a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, *c, *c, *c]",
        b"upstream: &u http://localhost:4000\nadmin: *u",
    ],
    longest=2048,
)
