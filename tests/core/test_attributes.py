"""Cookies are renewed and expired as their application sets them; browsers take nothing else."""

from __future__ import annotations

import pytest

from sidecar.core.attributes import Attributes, CookieKeys, Scope, attributes_in
from sidecar.core.record import replace

SCOPE = Scope(https=True, host="app.example.com")


@pytest.mark.parametrize(
    ("set_cookie", "expected"),
    [
        (b"a=1", Attributes(http_only=False)),
        (b"a=1; HttpOnly; Secure", Attributes(secure=True)),
        (b"a=1; path=/app; DOMAIN=.Example.com", Attributes("example.com", "/app", None, False)),
        (b"a=1; SameSite=nOnE", Attributes(same_site="None", http_only=False)),
        (b"a=1; SameSite=odd", Attributes(http_only=False)),
        (b"a=1; Partitioned; Secure", Attributes("", "/", None, False, True, True)),
        (b"a=1; Path=x; Path=/last", Attributes(path="/last", http_only=False)),
        (b"a=1; Path=app", Attributes(http_only=False)),
        (b"a=1; Path=/%b" % (b"x" * 300), Attributes(http_only=False)),
        (b"a=1; Path=/\xff", Attributes(http_only=False)),
    ],
)
def test_attributes_are_read_as_browsers_read_them(set_cookie: bytes, expected: Attributes) -> None:
    assert attributes_in(set_cookie) == expected


def test_configured_comes_before_seen_and_seen_before_usual() -> None:
    seen = Attributes("example.com", "/app", "None", False, True, True)
    scope = replace(SCOPE, seen={"a": seen})
    assert scope.attributes("a") == seen
    assert scope.attributes("b") == Attributes(secure=True)
    keys = CookieKeys("test", "/x", "Strict", True, False)
    assert scope.attributes("a", keys) == Attributes("test", "/x", "Strict", True, False, True)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("app.example.com", "example.com"),
        ("example.com", "example.com"),
        ("badexample.com", ""),
        ("other.test", ""),
    ],
)
def test_a_domain_that_was_seen_elsewhere_is_not_followed(host: str, domain: str) -> None:
    """One instance serves several hosts; a browser refuses a cookie of another one's Domain."""
    seen = {"a": Attributes(domain="example.com")}
    assert Scope(host=host, seen=seen).attributes("a").domain == domain


@pytest.mark.parametrize(
    "keys",
    [CookieKeys(same_site="None"), CookieKeys(partitioned=True)],
    ids=["none", "partitioned"],
)
def test_what_demands_secure_is_secure(keys: CookieKeys) -> None:
    found = Scope().attributes("a", keys)
    assert found.secure
    assert found.same_site == "None"
