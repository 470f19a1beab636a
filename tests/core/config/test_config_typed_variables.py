"""Variables are read by the type of the key that they set, and errors name them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.config import AuthjsSource, IronSessionSource, Listen
from sidecar.core.config.listen_section import listeners_at
from tests.core.config.conftest import FaultFinder, Loader

OIDC = "public_url: https://a.example\noidc: {issuer: https://i, client_id: c}\n"
FILE = (
    """\
upstreams: {a: {url: http://a}}
routes:
- {path: /, kind: page, upstream: a, session: required, allow: [{claim: groups, any: x}]}
session:
  sources:
  - {type: authjs, secret: s}
  - {type: iron-session, cookie: app, password: p}
unauthorized: {match: [{path: code, equals: x}]}
envelope: {failure: [{path: code, not: x}]}
"""
    + OIDC
)


def value_of(config: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(config, tuple):
            config = config[int(name)]
        else:
            config = config[name] if hasattr(config, "keys") else getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("name", "text", "path", "expected"),
    [
        # Numbers, switches, durations, sizes, rates and shares.
        ("LIMITS__IN_FLIGHT__API", "8080", "limits.in_flight.api", 8080),
        ("WORKERS", "1", "workers", 1),
        ("WATCH", "false", "watch", False),
        ("CSRF__ENABLED", "true", "csrf.enabled", True),
        ("DRAIN__TIMEOUT", "90s", "drain.timeout", 90.0),
        ("BRIDGE__HOLD", "0s", "bridge.hold", 0.0),
        ("LIMITS__BODY", "64KiB", "limits.body", 65536),
        ("LIMITS__BODY", "512", "limits.body", 512),
        ("LIMITS__PER_CLIENT__LOGIN", "30/m", "limits.per_client.login.count", 30),
        ("TRACING__SAMPLE", "0.25", "tracing.sample", 0.25),
        ("UNAUTHORIZED__BRAKE__SHARE", "0.9", "unauthorized.brake.share", 0.9),
        # Null, where the key takes it.
        ("ADMIN", "null", "admin", None),
        ("LIMITS__PER_CLIENT__LOGIN", "null", "limits.per_client.login", None),
        ("UNAUTHORIZED__BRAKE", "null", "unauthorized.brake", None),
        ("OIDC__CLIENT_SECRET", "null", "oidc.client_secret", None),
        # Lists: with commas, and as YAML or JSON.
        ("TRUSTED_PROXIES", "10.0.0.0/8,unix", "trusted_proxies", ("10.0.0.0/8", "unix")),
        ("TRUSTED_PROXIES", " 10.0.0.0/8 , unix,", "trusted_proxies", ("10.0.0.0/8", "unix")),
        ("TRUSTED_PROXIES", "[10.0.0.0/8, unix]", "trusted_proxies", ("10.0.0.0/8", "unix")),
        ("TRUSTED_PROXIES", '["10.0.0.0/8","unix"]', "trusted_proxies", ("10.0.0.0/8", "unix")),
        ("TRUSTED_PROXIES", "- 10.0.0.0/8\n- unix", "trusted_proxies", ("10.0.0.0/8", "unix")),
        ("TRUSTED_PROXIES", "unix", "trusted_proxies", ("unix",)),
        ("TRUSTED_PROXIES", "[]", "trusted_proxies", ()),
        ("UNAUTHORIZED__STATUS", "401,403", "unauthorized.status", (401, 403)),
        ("UNAUTHORIZED__MESSAGES", '["a, b"]', "unauthorized.messages", ("a, b",)),
        ("OIDC__SCOPES", "openid, email", "oidc.scopes", ("openid", "email")),
        ("CORS__ORIGINS", "https://a,https://b", "cors.origins", ("https://a", "https://b")),
        ("CORS", "https://b", "cors.origins", ("https://b",)),
        # Text stays text, whatever it looks like.
        ("OIDC__CLIENT_ID", "0123", "oidc.client_id", "0123"),
        ("OIDC__CLIENT_ID", "1e5", "oidc.client_id", "1e5"),
        ("OIDC__CLIENT_ID", "yes", "oidc.client_id", "yes"),
        ("OIDC__CLIENT_ID", "true", "oidc.client_id", "true"),
        ("OIDC__CLIENT_ID", "null", "oidc.client_id", "null"),
        ("OIDC__CLIENT_ID", "[a", "oidc.client_id", "[a"),
        ("OIDC__CLIENT_ID", "{a: b}", "oidc.client_id", "{a: b}"),
        ("OIDC__CLIENT_ID", "- a", "oidc.client_id", "- a"),
        ("OIDC__CLIENT_ID", "a,b", "oidc.client_id", "a,b"),
        ("TRACING__SERVICE", "123", "tracing.service", "123"),
        ("OIDC__PARAMETERS__AUDIENCE", "[a]", "oidc.parameters.audience", "[a]"),
        ("OIDC__PARAMETERS__PROMPT", "null", "oidc.parameters.prompt", None),
        # Any scalar.
        ("UNAUTHORIZED__MATCH__0__EQUALS", "401", "unauthorized.match.0.equals", 401),
        ("UNAUTHORIZED__MATCH__0__EQUALS", "true", "unauthorized.match.0.equals", True),
        ("UNAUTHORIZED__MATCH__0__EQUALS", "0123", "unauthorized.match.0.equals", "0123"),
        ("UNAUTHORIZED__MATCH__0__EQUALS", '"401"', "unauthorized.match.0.equals", "401"),
        ("UNAUTHORIZED__MATCH__0__EQUALS", "NO", "unauthorized.match.0.equals", "NO"),
        ("UNAUTHORIZED__MATCH__0__EQUALS", "False", "unauthorized.match.0.equals", False),
        ("UNAUTHORIZED__MATCH__0__EQUALS", "[a", "unauthorized.match.0.equals", "[a"),
        ("UNAUTHORIZED__MATCH__0__EQUALS", "a: b #c", "unauthorized.match.0.equals", "a: b #c"),
        # Lists that also take one value.
        ("ENVELOPE__FAILURE__0__NOT", "0,200", "envelope.failure.0.not_", (0, 200)),
        ("ENVELOPE__FAILURE__0__NOT", "0", "envelope.failure.0.not_", (0,)),
        ("ENVELOPE__FAILURE__0__NOT", "[0, 'a,b']", "envelope.failure.0.not_", (0, "a,b")),
        ("ENVELOPE__FAILURE__0__NOT__0", "7", "envelope.failure.0.not_", (7,)),
        ("ROUTES__0__ALLOW__0__ANY", "staff, 7", "routes.0.allow.0.any", ("staff, 7",)),
        (
            "ROUTES__0__ALLOW__0__DOMAIN",
            '["a.test", "b.test"]',
            "routes.0.allow.0.domain",
            ("a.test", "b.test"),
        ),
        # What has forms of its own.
        ("UNAUTHORIZED__MATCH__0__PATH", "a.b,c", "unauthorized.match.0.path", ("a", "b,c")),
        ("UNAUTHORIZED__MATCH__0__PATH", "[a.b, c]", "unauthorized.match.0.path", ("a.b", "c")),
    ],
)
def test_a_variable_is_read_by_the_type_of_its_key(
    *, loaded: Loader, name: str, text: str, path: str, expected: object
) -> None:
    found = value_of(loaded(FILE, {f"SIDECAR_{name}": text}), path)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("secret", ["a,b", "[a", "{a", "0123", "1e5", "yes", "null"])
def test_a_secret_is_taken_as_it_is(loaded: Loader, secret: str) -> None:
    """A comma, or a character that begins YAML, may stand in a password."""
    environ = {
        "SIDECAR_SESSION__SOURCES__0__SECRET": secret,
        "SIDECAR_SESSION__SOURCES__1__PASSWORD": secret,
        "SIDECAR_OIDC__CLIENT_SECRET": secret if secret != "null" else "x",
    }
    config = loaded(FILE, environ)
    authjs, iron = config.session.sources
    assert isinstance(authjs, AuthjsSource)
    assert isinstance(iron, IronSessionSource)
    assert [one.get_secret_value() for one in authjs.secret] == [secret]
    assert [one.get_secret_value() for one in iron.password.values()] == [secret]


def test_several_secrets_are_a_list_in_yaml(loaded: Loader) -> None:
    config = loaded(FILE, {"SIDECAR_SESSION__SOURCES__0__SECRET": "[new, old]"})
    assert isinstance(config.session.sources[0], AuthjsSource)
    found = [one.get_secret_value() for one in config.session.sources[0].secret]
    assert found == ["new", "old"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[::1]:8080", listeners_at(Listen("::1", 8080))),
        ("[':80', ':81']", listeners_at(Listen("::", 80), Listen("::", 81))),
    ],
)
def test_an_address_in_brackets_is_no_list(loaded: Loader, text: str, expected: object) -> None:
    assert loaded(FILE, {"SIDECAR_LISTEN": text}).listen == expected


@pytest.mark.parametrize(
    ("name", "text", "path", "problem"),
    [
        ("LIMITS__IN_FLIGHT__API", "many", "limits.in_flight.api", "must be an integer"),
        ("WATCH", "maybe", "watch", "must be true or false"),
        ("DRAIN__TIMEOUT", "30", "drain.timeout", "must be a duration"),
        ("LIMITS__BODY", "64kB", "limits.body", "unknown unit"),
        ("UNAUTHORIZED__STATUS", "401,x", "unauthorized.status[1]", "must be an integer"),
        ("TRUSTED_PROXIES", "unix,nowhere", "trusted_proxies[1]", "must be a network"),
        ("TRUSTED_PROXIES", "[unix", "trusted_proxies", "must be a list or mapping in YAML"),
        ("ROUTES", "{path", "routes", "must be a list or mapping in YAML"),
        ("WORKERS", "null", "workers", "must be a positive integer"),
    ],
)
def test_errors_name_the_variable(
    *, faults: FaultFinder, name: str, text: str, path: str, problem: str
) -> None:
    (fault,) = faults(FILE, {f"SIDECAR_{name}": text})
    assert (fault.source, fault.path, fault.line) == (f"SIDECAR_{name}", path, None)
    assert problem in fault.problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8,unix", ("10.0.0.0/8", "unix")),
        ("[10.0.0.0/8, unix]", ("10.0.0.0/8", "unix")),
        ("unix", ("unix",)),
        ("", ()),
    ],
)
def test_a_reference_alone_may_be_a_whole_list(
    loaded: Loader, text: str, expected: tuple[str, ...]
) -> None:
    config = loaded(FILE + "trusted_proxies: ${PROXIES}", {"PROXIES": text})
    assert config.trusted_proxies == expected


def test_a_reference_within_a_list_is_one_value(loaded: Loader) -> None:
    """What comes from the environment never adds to a structure that is written."""
    text = FILE.replace("unauthorized: {", "unauthorized: {messages: ['${A}', \"${A}\"], ")
    config = loaded(text, {"A": "a, b"})
    assert config.unauthorized.messages == ("a, b", "a, b")


@pytest.mark.parametrize("text", ["0123", "1e5", "yes", "true", "[a]", "a,b"])
def test_a_reference_for_text_stays_text(loaded: Loader, text: str) -> None:
    file = FILE.replace("client_id: c", "client_id: ${ID}")
    config = loaded(file, {"ID": text})
    assert config.oidc is not None
    assert config.oidc.client_id == text


@pytest.mark.parametrize(
    ("line", "path", "problem"),
    [
        ("limits: {body: ${A}}", "limits.body", "must be a size above zero"),
        ("watch: ${A}", "watch", "must be true or false"),
        ("workers: ${A:-0}", "workers", "must be a positive integer"),
        ("trusted_proxies: ${A}", "trusted_proxies[0]", "must be a network"),
    ],
)
def test_errors_of_a_reference_name_its_variable(
    faults: FaultFinder, line: str, path: str, problem: str
) -> None:
    (fault,) = faults(FILE + line, {"A": "nowhere"})
    assert (fault.path, fault.line) == (path, FILE.count("\n") + 1)
    assert problem in fault.problem
    assert "(the value of A)" in fault.problem


@pytest.mark.parametrize(
    ("text", "equals", "not_"),
    [
        ("4401", 4401, (4401,)),
        ("0,200", "0,200", (0, 200)),
        ("-1.5", -1.5, (-1.5,)),
        ("1e3", 1000.0, (1000.0,)),
        ("true", True, (True,)),
        ("False", False, (False,)),
        ("NO", "NO", ("NO",)),
        ("null", None, (None,)),
        ("0000", "0000", ("0000",)),
        ("1_000", "1_000", ("1_000",)),
        ('"4401"', "4401", ("4401",)),
        ("a, true", "a, true", ("a", True)),
        ("2026-01-01", "2026-01-01", ("2026-01-01",)),
    ],
)
def test_a_reference_alone_is_read_as_the_scalar_that_it_stands_for(
    *, loaded: Loader, text: str, equals: object, not_: tuple[object, ...]
) -> None:
    """A number would never match as a text. A list of them may be separated by commas."""
    file = (
        "upstream: http://a\n"
        "unauthorized: {match: [{path: code, equals: ${A}}]}\n"
        "envelope: {failure: [{path: a, equals: ${B:-DEFAULT}}, {path: b, not: ${A}}]}\n"
    )
    config = loaded(file.replace("DEFAULT", text), {"A": text})
    found = (config.unauthorized.match[0].equals, config.envelope.failure[0].equals)
    assert (found, *map(type, found)) == ((equals, equals), *[type(equals)] * 2)
    assert config.envelope.failure[1].not_ == not_
    assert [*map(type, config.envelope.failure[1].not_)] == [*map(type, not_)]


def test_a_reference_in_a_list_of_scalars_is_one_scalar(loaded: Loader) -> None:
    """In quotes, or with more around it, it is a text."""
    file = "upstream: http://a\nenvelope: {failure: [{path: a, not: [${A}, '${A}', 1${A}, ${B}]}]}"
    (rule,) = loaded(file, {"A": "200", "B": "1,2"}).envelope.failure
    assert rule.not_ == (200, "200", "1200", "1,2")


@pytest.mark.parametrize("line", ["any: ${A}", "all: ${A}", "any: '${A}'", "any: [${A}]"])
def test_a_reference_for_values_of_a_claim_is_one_value(loaded: Loader, line: str) -> None:
    """Names of groups hold commas: split, they would let other groups in."""
    file = FILE.replace("any: x", line)
    (rule,) = loaded(file, {"A": "cn=staff,ou=groups"}).routes[0].allow
    assert (rule.any or rule.all) == ("cn=staff,ou=groups",)


def test_a_variable_for_values_of_a_claim_is_one_value_or_a_list(loaded: Loader) -> None:
    name = "SIDECAR_ROUTES__0__ALLOW__0__ANY"
    (rule,) = loaded(FILE, {name: "cn=staff,ou=groups"}).routes[0].allow
    assert rule.any == ("cn=staff,ou=groups",)
    (rule,) = loaded(FILE, {name: '["staff", "cn=a,ou=b"]'}).routes[0].allow
    assert rule.any == ("staff", "cn=a,ou=b")
