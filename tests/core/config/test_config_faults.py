"""Every kind of fault is told with its key, its line and what would be right; all at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.core.config import Fault
from sidecar.core.errors import ConfigError

FaultFinder = Callable[..., tuple[Fault, ...]]

GOOD = "upstream: http://a\n"
ROUTED = "upstreams: {api: {url: http://a}}\nroutes:\n"

PUBLIC = GOOD + "public_url: https://app.example.com\n"

# The text, and the one fault in it: path, line, a part of the problem, a part of the remedy.
FAULTS = [
    # the file as a whole
    ("a: [", "", 1, "invalid YAML", "brackets"),
    ("a: b: c", "", 1, "invalid YAML", "indentation"),
    ("a: 1\n---\nb: 2", "", 2, "invalid YAML", ""),
    ("a: *nothing", "", 1, "invalid YAML", ""),
    ("a: \0", "", 1, "invalid YAML", "remove the control character"),
    ("# ${A}\na: ${B:-c}\n# \x1b[0m\n", "", 3, "invalid YAML", "remove the control character"),
    ("log:\n\tlevel: info", "", 2, "invalid YAML", "use spaces instead of tabs"),
    ("upstream:\thttp://a", "", 1, "invalid YAML", "use spaces instead of tabs"),
    ('a: "\\U99999999"', "", None, "invalid YAML", "brackets"),
    ("[" * 600, "", None, "invalid YAML", "brackets"),
    ("%YAML 2.1\n---\na:\n", "", 1, "invalid YAML", ""),
    ("a:\n%YAML 2.1\n- b\n", "", None, "invalid YAML", ""),
    ("- a", "", None, "must be a mapping", "listen: "),
    ("text", "", None, "must be a mapping", "listen: "),
    ("#" * 300_000, "", None, "must have at most", "files"),
    ("key: \ue050", "", None, "private-use", "remove"),
    ("a: &a [*a]", "", None, "too many or deeply nested", "aliases"),
    (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "\n".join(f"{k}: &{k} [{','.join(['*' + j] * 10)}]" for j, k in ("ab", "bc", "cd", "de")),
        "",
        None,
        "too many or deeply nested",
        "aliases",
    ),
    (GOOD + "listen: !!python/name:os.system 'a:1'", "listen", 2, "custom YAML tag", "plain value"),
    (GOOD + "csrf: !x {}", "csrf", 2, "custom YAML tag", "plain value"),
    # keys
    ("", "upstream", None, "missing", "SIDECAR_UPSTREAM"),
    (GOOD + "upstream: http://b", "upstream", 2, "duplicate key", "line 1"),
    (GOOD + "log:\n  level: info\n  level: info", "log.level", 4, "duplicate key", "line 3"),
    (GOOD + "lissen: a:1", "lissen", 2, "unknown key", 'did you mean "listen"?'),
    (GOOD + "log:\n  lvl: info", "log.lvl", 3, "unknown key", 'did you mean "level"?'),
    (
        GOOD + "log: {zzz: 1}",
        "log.zzz",
        2,
        "unknown key",
        "use access, format, level, mask or target",
    ),
    (
        GOOD + "session: {sources: [{type: cookie, cookie: a, token: b}]}",
        "session.sources[0].token",
        2,
        "unknown key",
        "use cookie, domain, http_only, name, partitioned, path,",
    ),
    (GOOD + "? [a]\n: 1", "?", 2, "unknown key", "use "),
    (GOOD + "<<: {}", "<<", 2, "unknown key", "use "),
    (GOOD + "warnings: []", "warnings", 2, "unknown key", ""),
    (GOOD + "tracing: {endpoint: collector}", "tracing.endpoint", 2, "must be an http", "https"),
    (
        GOOD + "envelope: {failure: [{path: code}]}",
        "envelope.failure[0]",
        2,
        "must have either equals or not",
        "equals: false",
    ),
    (
        GOOD + "envelope: {keep: [meta, status]}",
        "envelope.keep",
        2,
        "must not have status",
        "",
    ),
    (
        ROUTED + "- {path: /a, kind: api, upstream: api, envelope: {keep: [a], message: a.b}}",
        "routes[0].envelope",
        3,
        "must not have a in keep, since message stands within it",
        "leave out a",
    ),
    (
        GOOD + "envelope: {failure: [{path: code, not: []}]}",
        "envelope.failure[0].not",
        2,
        "must not be empty",
        "add at least one",
    ),
    (
        PUBLIC + "oidc: {issuer: https://idp, client_id: a, auth: private_key_jwt}",
        "oidc.auth",
        3,
        "auth: private_key_jwt must have key",
        "add key",
    ),
    (
        PUBLIC + "oidc: {issuer: https://idp, client_id: a, auth: tls}",
        "oidc.auth",
        3,
        "auth: tls must have key and cert",
        "add key and cert",
    ),
    (
        PUBLIC + "oidc: {issuer: https://idp, client_id: a, key: canary}",
        "oidc.key",
        3,
        "must be a private RSA or EC key in PEM",
        "use key_file",
    ),
    (
        GOOD + "session: {sources: [{type: jwt, cookie: a, key: x}]}",
        "session.sources[0].key",
        2,
        "must be a public key or a certificate in PEM",
        "use key_file",
    ),
    (
        GOOD + "session: {sources: [{type: jwt, cookie: a}]}",
        "session.sources[0]",
        2,
        "must have one of secret, key and jwks",
        "add secret",
    ),
    (GOOD + "tracing: {sample: 2}", "tracing.sample", 2, "must be", "1"),
    (GOOD + "tracing: {sample: true}", "tracing.sample", 2, "must be a number from 0 to 1", ""),
    (GOOD + "workers: 0", "workers", 2, "must be a positive integer or `auto`", "auto"),
    (GOOD + "workers: many", "workers", 2, "must be a positive integer or `auto`", "auto"),
    (GOOD + "store: {url: ftp://a}", "store.url", 2, "", "redis"),
    (PUBLIC + "oidc: {issuer: idp, client_id: a}", "oidc.issuer", 3, "must be an http", "https"),
    (PUBLIC + "oidc: {issuer: https://idp}", "oidc.client_id", 3, "missing", "add it"),
    (GOOD + "logout: {hooks: [{}]}", "logout.hooks[0].url", 2, "missing", "add it"),
    (
        "upstreams: {a.b: {url: http://a, urls: [http://b]}}\n"
        "routes: [{path: /, kind: page, upstream: a.b}]",
        "upstreams.a.b",
        1,
        "must have either url or urls",
        "",
    ),
    (
        "upstreams: {a: {}}\nroutes: [{path: /, kind: page, upstream: a}]",
        "upstreams.a",
        1,
        "must have either url or urls",
        "add url: ",
    ),
    (
        "upstreams: {a: {urls: [http://a/x, http://b/y]}}\n"
        "routes: [{path: /, kind: page, upstream: a}]",
        "upstreams.a",
        1,
        "must have urls with one scheme and base path",
        "",
    ),
    (
        "upstreams: {a: {urls: ['http://a', 'unix:/a']}}\n"
        "routes: [{path: /, kind: page, upstream: a}]",
        "upstreams.a",
        1,
        "must have urls with one scheme and base path",
        "",
    ),
    ("upstream: unix:app.sock", "upstream", 1, "must be unix: and an absolute path", ""),
    (GOOD + "tls: {cert: a}", "tls.key", 2, "missing", "add it"),
    # types
    (GOOD + "listen: 8080", "listen", 2, "must be text", "quotes"),
    (GOOD + "cors: true", "cors", 2, "must be a mapping", "keys and values"),
    (GOOD + "trusted_proxies: {unix: 1}", "trusted_proxies", 2, "must be a list", "dash"),
    (GOOD + "csrf: {enabled: maybe}", "csrf.enabled", 2, "must be true or false", "true"),
    (GOOD + "csrf: {enabled: []}", "csrf.enabled", 2, "must be true or false", "true"),
    (GOOD + "limits: {in_flight: {api: x}}", "limits.in_flight.api", 2, "must be an integer", ""),
    (GOOD + "limits: {in_flight: {api: 1.5}}", "limits.in_flight.api", 2, "must be an integer", ""),
    (
        GOOD + "limits: {in_flight: {api: true}}",
        "limits.in_flight.api",
        2,
        "must be an integer",
        "",
    ),
    (GOOD + "unauthorized: {messages: [1]}", "unauthorized.messages[0]", 2, "must be text", ""),
    (
        GOOD + "unauthorized: {match: [{path: a, equals: []}]}",
        "unauthorized.match[0].equals",
        2,
        "must be text, a number, true, false or null",
        "",
    ),
    # values
    (GOOD + "listen: nowhere", "listen", 2, "must be host:port", "0.0.0.0:8080"),
    (GOOD + "log: {level: infos}", "log.level", 2, "unknown value", 'did you mean "info"?'),
    (GOOD + "log: {access: {min_status: 99}}", "log.access.min_status", 2, "must be", ""),
    (GOOD + "log: {access: {min_status: true}}", "log.access.min_status", 2, "must be", ""),
    (GOOD + "log: {access: {min_duration: 1}}", "log.access.min_duration", 2, "must be", "30s"),
    (GOOD + "log: {access: {sample: 1.5}}", "log.access.sample", 2, "must be", "0.01"),
    (GOOD + "log: {access: {sample: much}}", "log.access.sample", 2, "must be", "0.01"),
    (GOOD + "log: {mask: [/a/b*]}", "log.mask[0]", 2, "whole segments", "/files/*"),
    (GOOD + "log: {mask: [/a/b]}", "log.mask[0]", 2, "must have", "/users/*/cards/*"),
    (GOOD + "log: {mask: ['a/*']}", "log.mask[0]", 2, "must be a path", ""),
    (GOOD + "log: {target: syslog}", "log.target", 2, "must be stderr", "file:///"),
    (GOOD + "log: {target: file://a/b}", "log.target", 2, "must be stderr", "file:///"),
    (GOOD + "log: {target: file:///a%20b}", "log.target", 2, "must have a path", ""),
    (GOOD + "log: {format: x}", "log.format", 2, "unknown value", "use console or json"),
    (
        GOOD + "limits: {in_flight: {api: 0}}",
        "limits.in_flight.api",
        2,
        "must be at least 1",
        "at least 1",
    ),
    (
        GOOD + "unauthorized: {status: [600]}",
        "unauthorized.status[0]",
        2,
        "must be at most 599",
        "599",
    ),
    (
        GOOD + "session: {sources: [{type: cookie, cookie: __Host-}]}",
        "session.sources[0].cookie",
        2,
        "must have a name behind its prefix",
        "__Host-session",
    ),
    *(
        (
            GOOD + f"session: {{sources: [{{type: cookie, cookie: a, refresh_cookie: {name}}}]}}",
            "session.sources[0].refresh_cookie",
            2,
            "must not be the cookie of the token too",
            "refresh token",
        )
        for name in ("a", "__Host-a")
    ),
    (
        GOOD + "logout: {cookies: [a, __Secure-]}",
        "logout.cookies[1]",
        2,
        "must have a name behind its prefix",
        "__Host-session",
    ),
    (GOOD + "limits: {header: 2GiB}", "limits.header", 2, "must be at most 1GiB", "64KiB"),
    (GOOD + "limits: {client_head: 10}", "limits.client_head", 2, "must be a duration", "30s"),
    (
        GOOD + "limits: {body: 1GB}",
        "limits.body",
        2,
        'unknown unit "GB"',
        "use bytes, KiB, MiB or GiB",
    ),
    (GOOD + "public_url: https://a/b", "public_url", 2, "must be an origin", "https://app"),
    (GOOD + "cors: {origins: ['*']}", "cors.origins[0]", 2, "must be an http or https URL", ""),
    (GOOD + "trusted_proxies: [10.0.0.1/8]", "trusted_proxies[0]", 2, "bits set", "10.0.0.0/8?"),
    (GOOD + "logout: {domains: ['a b']}", "logout.domains[0]", 2, "must be a cookie domain", ""),
    (GOOD + "tls: {cert: '', key: a}", "tls.cert", 2, "must not be empty", ""),
    (
        "upstream: http://u:p@a",
        "upstream",
        1,
        "must not have a user name or password",
        "remove them",
    ),
    ("upstreams: {}\nroutes: []", "routes", 2, "must not be empty", "at least one"),
    (GOOD + "session: {sources: []}", "session.sources", 2, "must not be empty", "remove the key"),
    # secrets
    (GOOD + "secret: tooshort", "secret", 2, "must have at least 32 bytes", "keygen"),
    (GOOD + "secret: ''", "secret", 2, "must not be empty", "remove the key"),
    (GOOD + "secret: 12345", "secret", 2, "must be text", "quotes"),
    (GOOD + f"secret:\n- {'x' * 32}\n- short", "secret[1]", 4, "must have at least 32 bytes", ""),
    (GOOD + "secret: []", "secret", 2, "must not be empty", ""),
    (
        GOOD + "secret: ${NONE}",
        "secret",
        2,
        "environment variable NONE is not set",
        "${NONE:-default}",
    ),
    (GOOD + "secret: ${NO NE}", "secret", 2, "malformed", "${NAME}"),
    (GOOD + "secret_file: /none", "secret_file", 2, "No such file", "mount"),
    (GOOD + "secret_file: /latin", "secret_file", 2, "must be UTF-8", "text"),
    (GOOD + "secret_file: [1]", "secret_file", 2, "must be the path of the file", ""),
    (GOOD + "secret_file: /marked", "secret_file", 2, "byte order mark", "save the file without"),
    (GOOD + "secret_file: /short", "secret", 2, "must have at least 32 bytes", "keygen"),
    (
        GOOD + f"secret: {'x' * 32}\nsecret_file: /none",
        "secret_file",
        3,
        "contradicts secret",
        "keep one of them",
    ),
    (
        GOOD + "session:\n  sources:\n  - type: iron-session\n    cookie: a\n    password: {1: ''}",
        "session.sources[0].password.1",
        6,
        "must not be empty",
        "",
    ),
    (
        GOOD + "session:\n  sources:\n  - type: nextauth\n    secret_file: /none",
        "session.sources[0].secret_file",
        5,
        "cannot be read",
        "",
    ),
    # sources
    (
        GOOD + "session: {sources: [{type: authj}]}",
        "session.sources[0].type",
        2,
        "unknown kind of session",
        'did you mean "authjs"?',
    ),
    (
        GOOD + "session: {sources: [{cookie: a}]}",
        "session.sources[0].type",
        2,
        "missing",
        "authjs",
    ),
    (
        GOOD + "session: {sources: [{type: authjs}]}",
        "session.sources[0].secret",
        2,
        "missing",
        "add it",
    ),
    # routes
    (ROUTED + "- {path: /, kind: apo, upstream: api}", "routes[0].kind", 3, "unknown", '"api"?'),
    (ROUTED + "- {path: /, upstream: api}", "routes[0].kind", 3, "missing", "add it"),
    (ROUTED + "- {path: a, kind: page, upstream: api}", "routes[0].path", 3, "must be a path", "/"),
    (
        ROUTED + "- {path: /a/, kind: api, upstream: api, strip: /b}",
        "routes[0].strip",
        3,
        "must be a prefix of the path",
        "use /a or a part of it",
    ),
    (
        ROUTED + "- {path: /ab, kind: api, upstream: api, strip: /a}",
        "routes[0].strip",
        3,
        "must be a prefix of the path",
        "/ab",
    ),
    (
        ROUTED + "- {path: /a, kind: api, upstream: api, session: none, inject: true}",
        "routes[0].inject",
        3,
        "contradicts session: none",
        "remove one",
    ),
    (
        ROUTED + "- {path: /a, kind: api, upstream: api, envelope: {bufer: 1}}",
        "routes[0].envelope.bufer",
        3,
        "unknown key",
        'did you mean "buffer"?',
    ),
    (
        ROUTED + "- {path: /a, kind: api, upstream: apx}",
        "routes[0].upstream",
        3,
        'unknown upstream "apx"',
        'did you mean "api"?',
    ),
    (
        ROUTED + "- {path: /a, kind: api, upstream: api}\n- {path: /a/, kind: page, upstream: api}",
        "routes[1].path",
        4,
        "must not be the path of routes[0] too",
        "one route",
    ),
    ("upstreams: {a: {url: http://a}}", "routes", None, "missing", "the paths"),
    ("routes: [{path: /, kind: page, upstream: a}]", "upstreams", None, "missing", "servers"),
    (
        "upstreams:\n  api:\n    url: https://a\n    tls: {cert: a}\n"
        "routes: [{path: /, kind: page, upstream: api}]",
        "upstreams.api.tls",
        4,
        "both cert and key",
        "or neither",
    ),
    # contradictions
    (
        GOOD + "upstreams: {a: {url: http://a}}",
        "upstream",
        1,
        "contradicts upstreams",
        "keep either",
    ),
    (
        ROUTED + "- {path: /, kind: api, upstream: api}",
        "logout.redirect_to",
        None,
        "must not lead to routes[0], which requires a session",
        'a route for "/login"',
    ),
    (
        ROUTED + "- {path: /, kind: page, upstream: api}\n"
        "- {path: /in, kind: page, upstream: api, session: required}\n"
        "logout: {redirect_to: /in/x?y}",
        "logout.redirect_to",
        5,
        "must not lead to routes[1]",
        "session: optional or none",
    ),
    (
        ROUTED + "- {path: /, kind: page, upstream: api}\n"
        "- {path: /in, kind: page, upstream: api, session: required}\n"
        "logout: {redirect_to: /in.html}",
        "logout.redirect_to",
        5,
        "must not lead to routes[1]",
        'a route for "/in.html"',
    ),
    (
        ROUTED + "- {path: /, kind: api, upstream: api}\n"
        "public_url: https://a\nlogout: {redirect_to: 'https://A:443/x'}",
        "logout.redirect_to",
        5,
        "must not lead to routes[0]",
        "",
    ),
    (
        GOOD + "logout: {redirect_to: /api/logout/}",
        "logout.redirect_to",
        2,
        "must not be logout.path",
        "login",
    ),
    (
        GOOD + "logout: {redirect_to: 'https://idp.example/x'}",
        "logout.redirect_to",
        2,
        "must lead to an allowed origin",
        "allowed_origins",
    ),
    *(
        (
            ROUTED + f"- {{path: /, kind: page, upstream: api, headers: {{{key}: [a, {name}]}}}}",
            f"routes[0].headers.{key}[1]",
            3,
            "only the sidecar writes",
            "remove it",
        )
        for key, name in (
            *(("pass", "Authorization"), ("pass", "COOKIE"), ("pass", "Host")),
            *(("pass", "Content-Length"), ("pass", "Transfer-Encoding"), ("pass", "Connection")),
            *(("pass", "Upgrade"), ("pass", "X-Forwarded-Prefix"), ("pass", "Via"), ("pass", "TE")),
            *(("pass", "X-Request-Id"), ("pass", "x_forwarded_for"), ("pass", "content.length")),
            *(("drop", "Authorization"), ("drop", "X-Forwarded-For")),
        )
    ),
    (
        ROUTED + "- {path: /, kind: page, upstream: api, headers: {pass: [a, 'b c']}}",
        "routes[0].headers.pass[1]",
        3,
        "must be a valid name",
        "letters",
    ),
    (
        ROUTED
        + "- {path: /, kind: page, upstream: api, headers: {pass: [X-User], drop: [x-user]}}",
        "routes[0].headers",
        3,
        "must not have a name in both drop and pass",
        "one of them",
    ),
    (GOOD + "logout: {path: /}", "logout.path", 2, "must not be the whole site", "/api/logout"),
    (
        GOOD + "limits: {per_client: {login: 5/d}}",
        "limits.per_client.login",
        2,
        'unknown unit "d"',
        "use s, m or h",
    ),
    (
        GOOD + "limits:\n  per_client: {logout: 60}",
        "limits.per_client.logout",
        3,
        "must be a rate above zero",
        "30/m",
    ),
    (
        GOOD + "unauthorized: {brake: {share: 2}}",
        "unauthorized.brake.share",
        2,
        "must be a number above 0 and at most 1",
        "0.5",
    ),
    (GOOD + "unauthorized: {brake: 5}", "unauthorized.brake", 2, "must be a mapping", "below it"),
    (GOOD + "drain: {wait: 25s}", "drain.wait", 2, "must be shorter than drain.timeout", "5s"),
    (GOOD + "drain: {timeout: 1s}", "drain.wait", 2, "must be shorter than drain.timeout", "5s"),
    (
        GOOD + "listen: 127.0.0.1:9090",
        "admin",
        None,
        "must not be the address of listen too",
        "port",
    ),
    (
        GOOD + "listen: unix:/a\nadmin: unix:/a",
        "admin",
        3,
        "must not be the address of listen too",
        "",
    ),
    *(
        (
            GOOD + f"workers: {workers}\nstore: {{url: 'memory:'}}",
            "store.url",
            3,
            f"must be a shared store, because workers is {workers}",
            "remove it",
        )
        for workers in ("2", "auto")
    ),
    (
        GOOD + "store: {url: sqlite:///var/lib/sidecar/store.db}",
        "store.url",
        2,
        "needs a secret, or the next start cannot open its values",
        "keygen",
    ),
    (
        GOOD + "session: {sources: [{type: cookie, cookie: a}]}\nstore: {url: rediss://a}",
        "store.url",
        3,
        "needs a secret, or other machines cannot open its values",
        "keygen",
    ),
]
FILES = {
    "/latin": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "/short": "canary\n",
    "/marked": f"\ufeff{'canary' * 8}\n",
}


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case[1] or "file")
def test_fault(faults: FaultFinder, case: tuple[str, str, int | None, str, str]) -> None:
    """One mistake is one fault, at its place, and says what would be right."""
    text, path, line, problem, remedy = case
    (fault,) = faults(text, {}, FILES)
    assert (fault.path, fault.line) == (path, line)
    assert problem in fault.problem
    assert remedy in str(fault)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (GOOD + "workers: 2", {}),
        (GOOD + "workers: auto\nstore: {}", {}),
        (GOOD + "workers: 1\nstore: {url: 'memory:'}", {}),
        (GOOD + "store: {url: redis://a}", {"AUTH_SECRET": "x"}),
        (GOOD + "store: {url: redis://a}", {"SIDECAR_SECRET": "x" * 32}),
        (GOOD + "store: {url: redis://a}\nsecret_file: /key", {}),
        (
            GOOD + "store: {url: sqlite:///a}\n"
            "session: {sources: [{type: iron-session, cookie: a, password: x}]}",
            {},
        ),
    ],
)
def test_stores_without_fault(
    loaded: Callable[..., object], text: str, environ: dict[str, str]
) -> None:
    """Several workers with no word of a store; a shared store wherever a secret comes from."""
    loaded(text, environ, {"/key": "x" * 32})


def test_workers_of_the_environment_contradict_too(faults: FaultFinder) -> None:
    environ = {"SIDECAR_WORKERS": "2", "SIDECAR_STORE__URL": "memory:"}
    (fault,) = faults(GOOD, environ)
    assert str(fault).startswith("SIDECAR_STORE__URL: store.url: must be a shared store")


def test_report_reads_like_a_compiler(faults: FaultFinder) -> None:
    """`file:line: key: problem; remedy`, one line each."""
    text = ROUTED + "- {path: /a, kind: api, upstream: apx}"
    assert [str(fault) for fault in faults(text)] == [
        'file.yaml:3: routes[0].upstream: unknown upstream "apx"; did you mean "api"?'
    ]


def test_every_fault_is_told_at_once_in_the_order_of_the_file(faults: FaultFinder) -> None:
    """Wrong types, unset names, unknown keys and contradictions do not hide each other."""
    text = (
        "listen: 1\n"
        "secret: ${NONE}\n"
        "upstreams: {api: {url: ftp://a, connect: 1}}\n"
        "routes:\n"
        "- {path: /a, kind: apo, upstream: apx, strip: /b}\n"
        "- {path: /a, kind: api, upstream: api, sesion: none}\n"
        "lgo: {}\n"
        "listen: 2\n"
    )
    assert [(fault.line, fault.path) for fault in faults(text)] == [
        (1, "listen"),
        (2, "secret"),
        (3, "upstreams.api.url"),
        (3, "upstreams.api.connect"),
        (5, "routes[0].kind"),
        (5, "routes[0].strip"),
        (5, "routes[0].upstream"),
        (6, "routes[1].sesion"),
        (6, "routes[1].path"),
        (7, "lgo"),
        (8, "listen"),
    ]


CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "text",
    [
        GOOD + f"secret: {CANARY}",
        GOOD + f"secret: [{CANARY}, {{a: {CANARY}}}]",
        GOOD + f"secret: {CANARY}\nsecret: {CANARY}2",
        GOOD + f"secret: {CANARY}\n  - x: [",
        GOOD + f"secret: 'a\n{CANARY}",
        GOOD + f"secret: !x {CANARY}",
        GOOD + f"secret: ${{{CANARY}",
        GOOD + f"secret: ${{A:-{CANARY}}}",
        GOOD + "secret: ${SECRET}",
        GOOD + "listen: ${SECRET}\nlog: {level: '${SECRET}', access: '${SECRET}'}",
        GOOD + "limits: {body: '${SECRET}', client_head: '${SECRET}', in_flight: '${SECRET}'}",
        GOOD + "cors: {origins: ['${SECRET}']}\ntrusted_proxies: ['${SECRET}']",
        GOOD + "logout: {path: '${SECRET}', redirect_to: '${SECRET}', cookies: ['${SECRET} ']}",
        GOOD + "session: {sources: [{type: '${SECRET}'}, {type: authjs, secrets: '${SECRET}'}]}",
        GOOD + "secret_file: /secret",
        "upstream: http://${SECRET}:${SECRET}@a",
    ],
)
def test_no_fault_holds_a_value(faults: FaultFinder, text: str) -> None:
    """Neither report, nor value, nor chained exception text shows what may be a secret."""
    found = faults(text, {"SECRET": CANARY}, {"/secret": CANARY})
    assert found
    assert CANARY not in repr(ConfigError(found)) + str(ConfigError(found)) + repr(found)


def test_no_configuration_shows_a_secret(loaded: Callable[..., object]) -> None:
    """Secrets are masked wherever the configuration is printed."""
    long = CANARY * 4
    config = loaded(
        GOOD + "secret: ['${SECRET}', '${SECRET}']\n"
        "session:\n  sources:\n"
        "  - {type: authjs, secret: '${SECRET}'}\n"
        "  - {type: iron-session, cookie: a, password: {1: '${SECRET}'}}\n"
        "  - {type: auth0, secret_file: /secret}\n",
        {"SECRET": long},
        {"/secret": CANARY},
    )
    assert CANARY not in f"{config!r} {config} {getattr(config, 'warnings', ())}"


def test_many_unknown_keys_are_told_at_once(faults: FaultFinder) -> None:
    """Each took a tenth of a second, since the schema was made anew to find what was meant."""
    told = faults("\n".join(f"lissten{number}: 1" for number in range(1000)))
    assert [fault.line for fault in told if fault.problem == "unknown key"] == [*range(1, 1001)]
