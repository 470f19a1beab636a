"""A short form is the long one: in the values, in rules over several keys, and in the schema."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from sidecar.core.config import schema
from sidecar.core.config.tree import read_tree
from tests.core.config.conftest import FaultFinder, Loader

S = "s" * 32
UP = "upstream: http://a\n"
ROUTES = "routes: [{path: /, kind: api, session: optional, upstream: a%s}]\n"
UPSTREAM = "upstreams: {a: %s}\n" + ROUTES % ""
SOURCE = UP + "session: {sources: [{type: %s}]}"
VALIDATOR = Draft202012Validator(schema())

PAIRS = [
    # Those of the contract.
    (f"secret: {S}", f"secret: [{S}]"),
    (
        SOURCE % "iron-session, cookie: a, password: p",
        SOURCE % "iron-session, cookie: a, password: {1: p}",
    ),
    (SOURCE % "authjs, secret: s, token: a.b", SOURCE % "authjs, secret: [s], token: [a, b]"),
    (SOURCE % "jwt, cookie: a, secret: s", SOURCE % "jwt, cookie: a, secret: [s]"),
    ("listen: ':80'", "listen: [':80']"),
    ("listen: ':80'", "listen: [{address: ':80'}]"),
    ("log: {access: true}", "log: {access: {}}"),
    ("envelope: {compress: true}", "envelope: {compress: auto}"),
    ("envelope: {failure: [{path: a, not: 0}]}", "envelope: {failure: [{path: a, not: [0]}]}"),
    # One value for a list of one.
    ("trusted_proxies: unix", "trusted_proxies: [unix]"),
    ("unauthorized: {status: 403, messages: no}", "unauthorized: {status: [403], messages: [no]}"),
    ("logout: {cookies: a, paths: /b}", "logout: {cookies: [a], paths: [/b]}"),
    ("logout: {domains: b.example}", "logout: {domains: [b.example]}"),
    ("logout: {allowed_origins: https://b}", "logout: {allowed_origins: [https://b]}"),
    ("cors: {origins: https://b}", "cors: {origins: [https://b]}"),
    ("envelope: {keep: meta}", "envelope: {keep: [meta]}"),
    ("log: {mask: /a/*}", "log: {mask: [/a/*]}"),
    (UPSTREAM % "{urls: http://a}", UPSTREAM % "{urls: [http://a]}"),
    (
        UPSTREAM % "{url: http://a, ejection: {statuses: 502}}",
        UPSTREAM % "{url: http://a, ejection: {statuses: [502]}}",
    ),
    (
        "upstreams: {a: {url: http://a}}\n" + ROUTES % ", headers: {drop: x-a, pass: x-user}",
        "upstreams: {a: {url: http://a}}\n" + ROUTES % ", headers: {drop: [x-a], pass: [x-user]}",
    ),
    (
        "oidc: {issuer: https://i, client_id: c, scopes: openid}",
        "oidc: {issuer: https://i, client_id: c, scopes: [openid]}",
    ),
    # A value for a section's main key.
    (UPSTREAM % "http://a", UPSTREAM % "{url: http://a}"),
    (UPSTREAM % "{url: http://a, check: /up}", UPSTREAM % "{url: http://a, check: {path: /up}}"),
    (f"secret: {S}\nstore: redis://r", f"secret: {S}\nstore: {{url: redis://r}}"),
    ("cors: https://b", "cors: {origins: [https://b]}"),
    ("cors: [https://b, https://c]", "cors: {origins: [https://b, https://c]}"),
    ("csrf: false", "csrf: {enabled: false}"),
    ("bridge: 1s", "bridge: {hold: 1s}"),
    ("tracing: http://c:4318", "tracing: {endpoint: http://c:4318}"),
    ("logout: {hooks: [http://h]}", "logout: {hooks: [{url: http://h}]}"),
    # True and false.
    ("unauthorized: {brake: false}", "unauthorized: {brake: null}"),
    ("unauthorized: {brake: true}", "unauthorized: {brake: {}}"),
    (
        UPSTREAM % "{urls: [http://a, http://b], ejection: false}",
        UPSTREAM % "{urls: [http://a, http://b], ejection: null}",
    ),
    (
        "upstreams: {a: http://a}\n" + ROUTES % ", envelope: true",
        "upstreams: {a: http://a}\n" + ROUTES % ", envelope: {}",
    ),
    (
        "upstreams: {a: http://a}\n"
        + ROUTES % ", sources: access_token"
        + "session: {sources: [{type: cookie, cookie: access_token}]}",
        "upstreams: {a: http://a}\n"
        + ROUTES % ", sources: [access_token]"
        + "session: {sources: [{type: cookie, cookie: access_token}]}",
    ),
]


def whole(text: str) -> str:
    """A configuration that has something to serve."""
    return text if "upstream" in text else UP + text


@pytest.mark.parametrize(("short", "long"), PAIRS, ids=[short for short, _ in PAIRS])
def test_a_short_form_is_the_long_one(loaded: Loader, short: str, long: str) -> None:
    assert loaded(whole(short)) == loaded(whole(long))


@pytest.mark.parametrize("short", [short for short, _ in PAIRS])
def test_the_schema_takes_each_short_form(short: str) -> None:
    """So no editor underlines it."""
    tree = read_tree(whole(short), "file.yaml", {})
    assert not [error.message for error in VALIDATOR.iter_errors(tree.data)]


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        (UP + "store: nowhere", "store.url", "must be"),
        (UP + "store: redis://r", "store.url", "needs a secret"),
        (UP + "workers: 2\nstore: 'memory:'", "store.url", "must be a shared store"),
        (UPSTREAM % "ftp://a", "upstreams.a.url", "must be an http or https URL"),
        (UP + "trusted_proxies: nowhere", "trusted_proxies[0]", "must be a network"),
        (UP + "cors: '*'", "cors.origins[0]", "must be an http or https URL"),
        (UP + "csrf: maybe", "csrf", "must be a mapping"),
        (UP + "csrf: 0", "csrf", "must be a mapping"),
        (UP + "csrf: 0.0", "csrf", "must be a mapping"),
        (UP + "bridge: 1", "bridge.hold", "must be a duration"),
        (UP + "unauthorized: {brake: on}", "unauthorized.brake", "must be a mapping"),
        (UPSTREAM % "5", "upstreams.a.url", "must be text"),
    ],
)
def test_a_fault_in_a_short_form_names_its_key_and_line(
    faults: FaultFinder, text: str, path: str, problem: str
) -> None:
    (fault,) = faults(text)
    assert fault.path == path
    assert fault.line is not None
    assert problem in fault.problem


def test_a_variable_goes_into_what_the_file_has_in_short(loaded: Loader) -> None:
    text = f"secret: {S}\nstore: redis://r\n" + UPSTREAM % "http://a"
    environ = {"SIDECAR_STORE__READY": "false", "SIDECAR_UPSTREAMS__A__CONNECT": "1s"}
    config = loaded(text, environ)
    assert (config.store.url.kind, config.store.ready) == ("redis", False)
    assert (config.upstreams["a"].url, config.upstreams["a"].connect) == ("http://a", 1.0)


@pytest.mark.parametrize("text", ["false", "False", "FALSE", "true", "True", "TRUE"])
def test_true_and_false_are_text_in_any_case_from_the_environment(
    loaded: Loader, text: str
) -> None:
    """In a short form as in every other key, by a variable of the key or by a reference."""
    names = (
        *("CSRF", "LOG__ACCESS", "ROUTES__0__ENVELOPE", "ROUTES__0__INJECT"),
        *("UPSTREAMS__A__READY", "UPSTREAMS__A__EJECTION"),
        *("UNAUTHORIZED__BRAKE", "ENVELOPE__COMPRESS"),
    )
    file = UPSTREAM % "{url: http://a}"
    by_key = loaded(file, {f"SIDECAR_{name}": text for name in names})
    written = "csrf: ${A}\nlog: {access: '${A}'}\nunauthorized: {brake: ${A}}\n"
    written += "envelope: {compress: ${A}}\n"
    written += "upstreams: {a: {url: http://a, ready: ${A}, ejection: ${A}}}\n"
    by_reference = loaded(written + ROUTES % ", envelope: ${A}, inject: ${A}", {"A": text})
    is_on = text.lower() == "true"
    for config in (by_key, by_reference):
        (route,) = config.routes
        assert [
            config.csrf.enabled,
            config.log.access is not None,
            route.envelope is not None,
            route.inject,
            config.upstreams["a"].ready,
            config.unauthorized.brake is not None,
            config.upstreams["a"].ejection is not None,
            config.envelope.compress == "auto",
        ] == [is_on] * 8


@pytest.mark.parametrize(
    ("more", "environ", "same"),
    [
        (
            f"secret: {S}\n",
            {"STORE": "redis://r", "STORE__READY": "false"},
            f"secret: {S}\nstore: {{url: redis://r, ready: false}}\n",
        ),
        (
            "log: {access: true}\n",
            {"LOG__ACCESS__MIN_STATUS": "400"},
            "log: {access: {min_status: 400}}\n",
        ),
        (
            "",
            {"LOG__ACCESS": "True", "LOG__ACCESS__MIN_STATUS": "400"},
            "log: {access: {min_status: 400}}\n",
        ),
        (
            "",
            {"CORS": "https://b", "CORS__ORIGINS__1": "https://c"},
            "cors: {origins: [https://b, https://c]}\n",
        ),
        ("csrf: false\n", {"CSRF__HEADER": "X-A"}, "csrf: {enabled: false, header: X-A}\n"),
        (
            "",
            {"UNAUTHORIZED__BRAKE": "true", "UNAUTHORIZED__BRAKE__SESSIONS": "7"},
            "unauthorized: {brake: {sessions: 7}}\n",
        ),
    ],
)
def test_a_variable_goes_into_a_short_form_wherever_that_is_written(
    loaded: Loader, more: str, environ: dict[str, str], same: str
) -> None:
    """In the file or in a variable, as into the mapping that it stands for."""
    variables = {f"SIDECAR_{name}": text for name, text in environ.items()}
    assert loaded(UP + more, variables) == loaded(UP + same)


def test_a_variable_goes_into_the_envelope_of_a_route(loaded: Loader) -> None:
    text = "upstreams: {a: http://a}\n" + ROUTES % ", envelope: true"
    (route,) = loaded(text, {"SIDECAR_ROUTES__0__ENVELOPE__BUFFER": "2KiB"}).routes
    assert route.envelope is not None
    assert route.envelope.buffer == 2048


def test_nothing_goes_into_what_is_turned_off(faults: FaultFinder) -> None:
    (fault,) = faults(UP + "log: {access: false}", {"SIDECAR_LOG__ACCESS__SAMPLE": "1"})
    assert fault.problem == "unknown key below a plain value"
