"""A server behind TLS that takes http for its clients' scheme sends nobody out of https."""

from __future__ import annotations

import pytest

from sidecar.core.https_site import HttpsSite


@pytest.mark.parametrize(
    ("location", "corrected"),
    [
        ("http://app.test/a?b=http://app.test#c", "https://app.test/a?b=http://app.test#c"),
        ("HTTP://App.Test:80", "https://app.test"),
        ("http://app.test:443/a", "https://app.test/a"),
        ("http://app.test?a", "https://app.test?a"),
        ("http://app.test:3000/a", "http://app.test:3000/a"),
        ("http://app.test:4430/a", "http://app.test:4430/a"),
        ("http://app.test.evil.test/a", "http://app.test.evil.test/a"),
        ("http://app.test@evil.test/a", "http://app.test@evil.test/a"),
        ("http://app.test\\@evil.test/a", "http://app.test\\@evil.test/a"),
        ("http:/app.test/a", "http:/app.test/a"),
        ("ws://app.test/a", "ws://app.test/a"),
        ("https://app.test/a", "https://app.test/a"),
        ("//app.test/a", "//app.test/a"),
        ("/http://app.test/", "/http://app.test/"),
        ("", ""),
    ],
)
def test_only_the_site_itself_by_http_becomes_https(location: str, corrected: str) -> None:
    """Foreign hosts and other ports stay: they are other servers."""
    site = HttpsSite.of(b"https://app.test")
    assert site is not None
    assert site.location(location) == corrected


def test_port_of_the_site_is_part_of_it() -> None:
    site = HttpsSite.of(b"https://app.test:8443")
    assert site is not None
    assert site.location("http://app.test:8443/a") == "https://app.test:8443/a"
    for other in ("http://app.test/a", "http://app.test:443/a"):
        assert site.location(other) == other


def test_site_that_is_not_https_has_none() -> None:
    assert HttpsSite.of(b"http://app.test") is None
    assert HttpsSite.of(b"") is None
