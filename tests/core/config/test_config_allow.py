"""`allow`: rules over claims, in the configuration."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest

from sidecar.core.config import Config, load
from sidecar.core.errors import ConfigError

LOGIN = {"issuer": "https://idp.example.com", "client_id": "app", "client_secret": "x"}


def no_file(path: str) -> NoReturn:
    raise FileNotFoundError(path)


def loaded(route: dict[str, Any] | None = None, **more: Any) -> Config:
    """A configuration with one gated API, and what stands besides."""
    whole = {
        "listen": "127.0.0.1:0",
        "upstreams": {"api": {"url": "http://localhost:1"}},
        "routes": [{"path": "/api", "kind": "api", "upstream": "api", **(route or {})}],
        **more,
    }
    return load(json.dumps(whole), source="test.yaml", environ={}, read_file=no_file)


def faults(route: dict[str, Any] | None = None, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(route, **more)
    return [str(fault) for fault in caught.value.faults]


STAFF = {"claim": "groups", "any": ["staff"]}


def test_one_value_stands_for_a_list_and_numbers_for_texts() -> None:
    rules = [{"claim": "realm.roles", "any": "staff"}, {"claim": ["a.b"], "all": [7, True]}]
    found = loaded(oidc={**LOGIN, "allow": [*rules, {"claim": "email", "domain": "Example.COM"}]})
    assert found.oidc is not None
    one, other, third = found.oidc.allow
    assert (one.claim, one.any) == (("realm", "roles"), ("staff",))
    assert (other.claim, other.all) == (("a.b",), ("7", "true"))
    assert third.domain == ("example.com",)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"claim": "groups"}, "must have any, all or domain; add any: [staff], for example"),
        ({"any": ["x"]}, "claim: missing"),
        ({"claim": "groups", "any": [""]}, "must be text, a whole number, true or false"),
        ({"claim": "groups", "any": [{}]}, "must be text, a whole number, true or false"),
        ({"claim": "access_token", "any": ["x"]}, "must not lead to a token"),
        ({"claim": "tokenSet.idToken", "any": ["x"]}, "must not lead to a token"),
        ({"claim": "email", "domain": ["@example.com"]}, "must be a mail domain"),
        ({"claim": "x", "some": ["y"]}, "unknown key"),
    ],
)
def test_what_is_no_rule_is_a_fault(rule: dict[str, Any], words: str) -> None:
    found = faults(oidc={**LOGIN, "allow": [rule]})
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"session": "optional"}, "needs a session to judge; add session: required to the route"),
        ({"session": "none"}, "needs a session to judge"),
        ({"authorization": "pass"}, "contradicts authorization"),
        ({"authorization": "session"}, "contradicts authorization"),
    ],
)
def test_a_gate_that_somebody_could_go_round_is_a_fault(route: dict[str, Any], words: str) -> None:
    found = faults({"allow": [STAFF], **route}, oidc=LOGIN)
    assert len(found) == 1
    assert words in found[0]


def test_a_source_without_claims_is_a_fault_unless_the_route_does_without_it() -> None:
    """Nobody can verify a plain cookie, whatever it says."""
    sources = [{"type": "authjs", "secret": "x" * 32}, {"type": "cookie", "cookie": "access_token"}]
    session = {"sources": sources}
    found = faults({"allow": [STAFF]}, session=session)
    assert len(found) == 1
    assert "session.sources[1] (type: cookie) shows none" in found[0]
    assert "add sources: [authjs.session-token] to the route" in found[0]
    loaded({"allow": [STAFF], "sources": ["authjs.session-token"]}, session=session)


# -- fields that tell who the user is -------------------------------------------------------------

SEALED = {"session": {"sources": [{"type": "authjs", "secret": "x" * 32, "token": "tok"}]}}
OTHER = {"kind": "page", "upstream": "api"}


def with_fields(headers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"session": "optional", "headers": headers, **more}


def test_fields_are_set_in_short_and_at_length() -> None:
    headers = {
        "drop": ["x-a"],
        "X-User": "claim.email",
        "set": {"X-Groups": ["claim", "https://example.com/groups"], "x-b": "claim.a.b"},
    }
    found = loaded(with_fields(headers), **SEALED).routes[0].headers
    assert dict(found.set_) == {
        "X-User": ("email",),
        "X-Groups": ("https://example.com/groups",),
        "x-b": ("a", "b"),
    }
    assert found.drop == ("x-a",)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X-User": "email"}, "headers.X-User: must be claim. and the name of a claim"),
        ({"set": {"X-User": "email"}}, "headers.set.X-User: must be claim."),
        ({"X-User": "claim."}, "must be"),
        ({"X-User": "claim.refresh_token"}, "headers.X-User: must not lead to a token"),
        ({"X-User": "claim.tok"}, "headers.X-User: must not lead to a token"),
        ({"X-User": ["email"]}, "unknown key"),
        ({"Authorization": "claim.sub"}, "must not be, or read like, a field that only"),
        ({"X-Forwarded-Host": "claim.sub"}, "must not be, or read like, a field that only"),
        ({"X_User": "claim.sub"}, "must be a field name of letters, digits and -"),
        ({"Content-Type": "claim.sub"}, "must not be a field that says something else"),
        ({"Origin": "claim.sub"}, "must not be a field that says something else"),
        ({"X-User": "claim.sub", "x-user": "claim.email"}, "must not set a field twice"),
        ({"X-User": "claim.sub", "pass": ["x_user"]}, "must not set a field that clients may send"),
    ],
)
def test_what_cannot_be_set_is_a_fault(headers: dict[str, Any], words: str) -> None:
    found = faults(with_fields(headers), **SEALED)
    assert len(found) == 1
    assert words in found[0]


def test_a_field_needs_a_session_with_claims() -> None:
    fields = {"X-User": "claim.sub"}
    plain = {"session": {"sources": [{"type": "cookie", "cookie": "t"}]}}
    assert "shows none" in faults(with_fields(fields), **plain)[0]
    none = faults(with_fields(fields, session="none"), **SEALED)
    assert "contradicts session: none" in none[0]


def test_no_other_route_lets_clients_send_such_a_field_to_the_same_upstream() -> None:
    """The upstream could not tell whose word it is."""
    routes = [
        {"path": "/api", "kind": "api", "upstream": "api", **with_fields({"X-User": "claim.sub"})},
        {"path": "/", "kind": "page", "upstream": "api", "headers": {"pass": ["x-user"]}},
    ]
    found = faults(routes=routes, **SEALED)
    assert len(found) == 1
    assert "routes[1].headers.pass[0]: must not be a field that another route sets" in found[0]
