"""Who may act with a credential that the browser attached (behaviour: browser protection)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.csrf import CsrfRule
from sidecar.core.errors import CsrfRejected
from sidecar.core.request import Request
from sidecar.core.target import normal_origin

PUBLIC = b"https://app.test"
LISTED = b"https://admin.test"
RULE = CsrfRule(enabled=True, header=b"", origins=frozenset([LISTED]))
WITH_HEADER = CsrfRule(enabled=True, header=b"x-csrf", origins=frozenset([LISTED]))
OFF = CsrfRule(enabled=False, header=b"x-csrf", origins=frozenset())
HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket"}

SITES = [None, "same-origin", "same-site", "cross-site", "none", "", "Same-Origin", "same-origin,x"]
ORIGINS = [
    None,
    "https://app.test",
    "https://admin.test",
    "https://evil.test",
    "https://app.test.evil.test",
    "https://app.test:8443",
    "http://app.test",
    "https://app.test/",
    "HTTPS://APP.TEST:443",
    "null",
    "",
]


def request(method: str, headers: Mapping[str, str | None]) -> Request:
    fields = [("Host", "app.test"), *headers.items()]
    raw = tuple((name.encode(), value.encode()) for name, value in fields if value is not None)
    return Request(method, "/api/x", raw, http11=True)


def passes(rule: CsrfRule, asked: Request) -> bool:
    try:
        rule.check(asked, PUBLIC)
    except CsrfRejected:
        return False
    return True


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("site", SITES)
def test_unsafe_methods_need_somebody_to_vouch(
    method: str, site: str | None, origin: str | None
) -> None:
    """Sec-Fetch-Site, else the Origin, else that it is no browser."""
    asked = request(method, {"Sec-Fetch-Site": site, "Origin": origin})
    if site in ("same-origin", "none"):
        wanted = True
    elif origin is not None:
        wanted = origin in ("https://app.test", "https://admin.test", "HTTPS://APP.TEST:443")
    else:
        wanted = site is None
    assert passes(RULE, asked) is wanted


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_methods_pass_from_anywhere(method: str) -> None:
    """They change nothing by their definition (RFC 9110 9.2.1)."""
    hostile = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
    assert passes(WITH_HEADER, request(method, hostile))


@pytest.mark.parametrize(
    ("site", "origin", "wanted"),
    [
        (None, "https://app.test", True),
        (None, "https://admin.test", True),
        ("same-origin", "https://app.test", True),
        (None, "https://evil.test", False),
        ("cross-site", "https://evil.test", False),
        ("same-site", "https://other.app.test", False),
        (None, "null", False),
        (None, None, True),
    ],
)
def test_a_handshake_is_judged_though_it_is_a_get(
    site: str | None, origin: str | None, wanted: bool
) -> None:
    """Browsers open WebSockets across sites, cookies attached (T19)."""
    asked = request("GET", {**HANDSHAKE, "Sec-Fetch-Site": site, "Origin": origin})
    assert passes(RULE, asked) is wanted
    assert passes(WITH_HEADER, asked) is wanted  # scripts cannot add a header to a handshake


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"X-CSRF": "1"}, True),
        ({"x-csrf": ""}, True),
        ({}, False),
        ({"X-CSRF-Token": "1"}, False),
        ({"X_CSRF": "1"}, False),
        ({"X-Other": "X-CSRF"}, False),
        ({"X-CSRF": "1", "Connection": "x-csrf"}, False),
    ],
)
def test_a_configured_header_is_demanded_besides(headers: dict[str, str], wanted: bool) -> None:
    """Another site's form cannot send it, and its script needs a preflight."""
    assert passes(WITH_HEADER, request("POST", {"Origin": "https://app.test", **headers})) is wanted
    assert not passes(WITH_HEADER, request("POST", {"Origin": "https://evil.test", **headers}))


def test_a_header_that_the_sidecar_reads_itself_can_be_demanded() -> None:
    """X-Requested-With is the usual choice."""
    rule = CsrfRule(enabled=True, header=b"x-requested-with", origins=frozenset())
    assert passes(rule, request("POST", {"X-Requested-With": "XMLHttpRequest"}))
    assert not passes(rule, request("POST", {}))


def test_a_header_that_is_kept_from_upstreams_can_be_demanded() -> None:
    """It is asked of the client, not of what passes on."""
    rule = CsrfRule(enabled=True, header=b"x_csrf", origins=frozenset())
    assert passes(rule, request("POST", {"X_CSRF": "1"}))
    assert not passes(rule, request("POST", {"X-CSRF": "1"}))


def test_switched_off_it_asks_nothing() -> None:
    """`csrf: {enabled: false}`."""
    assert passes(OFF, request("POST", {"Origin": "https://evil.test"}))


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
def test_a_second_field_vouches_for_nothing(name: str) -> None:
    """Two values are none that is known."""
    good = {"Origin": "https://app.test", "Sec-Fetch-Site": "same-origin"}[name]
    raw = ((b"Host", b"app.test"), *((name.encode(), good.encode()),) * 2)
    assert not passes(RULE, Request("POST", "/", raw, http11=True))


@given(st.binary(max_size=30), st.sampled_from([b"cross-site", b"same-site", b"x"]))
def test_no_other_origin_passes(origin: bytes, site: bytes) -> None:
    """Equality of normal forms is the whole rule."""
    raw = ((b"Host", b"app.test"), (b"Origin", origin), (b"Sec-Fetch-Site", site))
    asked = Request("POST", "/", raw, http11=True)
    assert passes(RULE, asked) is (normal_origin(origin) in (PUBLIC, LISTED))
