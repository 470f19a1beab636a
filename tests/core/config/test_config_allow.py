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
