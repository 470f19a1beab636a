"""The longest prefix wins, the rest of a path arrives as sent, and redirects lead back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.routes import UNROUTED, Route, RouteTable

SEGMENT = st.sampled_from(["a", "b", "api", "apis", "login", "%2F", "a.b", ""])
PATH = st.lists(SEGMENT, max_size=6).map(lambda segments: "/" + "/".join(segments))
PREFIX = st.lists(st.sampled_from(["a", "b", "api", "apis", "login"]), max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)


def route(path: str, strip: str = "", base: str = "", origin: str = "http://api:4000") -> Route:
    return replace(
        UNROUTED,
        path=path,
        strip=strip,
        strip_segments=strip.count("/"),
        base=base,
        upstream_origin=origin,
    )


def longest_prefix(prefixes: list[str], path: str) -> str | None:
    """The rule as the contract states it, one prefix after the other."""
    matching = [
        prefix for prefix in prefixes if prefix in ("/", path) or path.startswith(prefix + "/")
    ]
    return max(matching, key=len, default=None)


@given(st.lists(PREFIX, unique=True, max_size=8), PATH, st.booleans())
def test_the_longest_prefix_wins(prefixes: list[str], path: str, slash: bool) -> None:
    """Whatever the table holds, the answer is the naive rule's."""
    table = RouteTable(route(p + "/" if slash and p != "/" else p) for p in prefixes)
    found = table.match(path)
    wanted = longest_prefix(prefixes, path)
    assert (None if found is None else found.path.rstrip("/") or "/") == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", "/"),
        ("/apis", "/"),
        ("/api", "/api/"),
        ("/api/", "/api/"),
        ("/api/x", "/api/"),
        ("/api/login", "/api/login"),
        ("/api/login/x", "/api/login"),
        ("/api/loginx", "/api/"),
        ("/api//login", "/api/"),
        ("//api/login", "/"),
        ("/api%2Flogin", "/"),
        ("/API/", "/"),
    ],
)
def test_prefixes_end_at_segments(path: str, wanted: str) -> None:
    """`/api/` is no prefix of `/apis`, and `%2F` is no boundary."""
    table = RouteTable([route("/api/"), route("/api/login"), route("/")])
    found = table.match(path)
    assert found is not None
    assert found.path == wanted


def test_nothing_matches_where_no_route_does() -> None:
    """A table without `/` leaves paths over."""
    assert RouteTable([route("/api/")]).match("/other") is None
    assert RouteTable([]).match("/") is None


@given(PREFIX.filter(lambda path: path != "/"), PATH, st.sampled_from(["", "?", "?a=%2F&b"]))
def test_behind_strip_every_byte_arrives(strip: str, rest: str, query: str) -> None:
    """Contract 10: path and query byte for byte after `strip`."""
    assert route(strip, strip=strip).upstream_target(strip + rest, query) == rest + query


@pytest.mark.parametrize(
    ("strip", "base", "path", "target"),
    [
        ("", "", "/api/x", "/api/x"),
        ("/api", "", "/api/x", "/x"),
        ("/api", "", "/api/", "/"),
        ("/api", "", "/api", "/"),
        ("/api", "", "/%61pi/x%2fy", "/x%2fy"),
        ("/api", "", "/api//x", "//x"),
        ("/api/v1", "", "/api/v1/x", "/x"),
        ("/api", "/base", "/api/x", "/base/x"),
        ("/api", "/base", "/api", "/base/"),
        ("", "/base", "/x", "/base/x"),
    ],
)
def test_the_prefix_is_exchanged(strip: str, base: str, path: str, target: str) -> None:
    """`strip` goes however its characters were escaped, the upstream's base path comes."""
    assert route("/", strip=strip, base=base).upstream_target(path, "?q") == target + "?q"


@pytest.mark.parametrize(
    ("strip", "base", "location", "public"),
    [
        # At the upstream's origin.
        ("/api", "", "http://api:4000/x?y#z", "/api/x?y#z"),
        ("/api", "", "http://api:4000", "/api/"),
        ("/api", "", "http://api:4000?x", "/api/?x"),
        ("", "", "http://api:4000/x", "/x"),
        ("/api", "/v1", "http://api:4000/v1/x", "/api/x"),
        ("/api", "/v1", "http://api:4000/v1", "/api"),
        # Path-absolute.
        ("/api", "", "/x", "/api/x"),
        ("", "", "/x", "/x"),
        ("/api", "/v1", "/v1/x", "/api/x"),
        ("/api", "/v1", "/v1?x", "/api?x"),
        ("/api", "/v1", "/v1#x", "/api#x"),
        ("/api", "/v1", "/v10/x", "/api/v10/x"),
        ("", "/v1", "/v1", "/"),
        ("", "/v1", "/v1?x", "/?x"),
        ("", "/v1", "/v1#x", "/#x"),
        # Foreign, and relative: as they came.
        ("/api", "", "https://idp.test/x", "https://idp.test/x"),
        ("/api", "", "http://api:40001/x", "http://api:40001/x"),
        ("/api", "", "http://api:4000.evil.test/x", "http://api:4000.evil.test/x"),
        ("/api", "", "http://api:4000@evil.test/x", "http://api:4000@evil.test/x"),
        ("/api", "", "http://api:4000\\@evil.test/x", "http://api:4000\\@evil.test/x"),
        ("/api", "", "//cdn.test/x", "//cdn.test/x"),
        ("/api", "", "x/y", "x/y"),
        ("/api", "", "?x", "?x"),
        ("/api", "", "", ""),
        # What would become another host by being mapped.
        ("", "", "http://api:4000//evil.test/x", "/evil.test/x"),
        ("", "", "http://api:4000/\\evil.test/x", "/evil.test/x"),
        ("", "", "http://api:4000/\t/evil.test/x", "/evil.test/x"),
        ("", "/v1", "/v1//evil.test/x", "/evil.test/x"),
        ("", "/v1", "/v1/\\evil.test/x", "/evil.test/x"),
        ("", "", "/\\evil.test/x", "/evil.test/x"),
        ("", "", "/\t/evil.test/x", "/evil.test/x"),
    ],
)
def test_locations_lead_back(strip: str, base: str, location: str, public: str) -> None:
    """Contract 10: what points at the upstream's origin, or is path-absolute, is mapped back."""
    assert route("/", strip=strip, base=base).public_location(location) == public


@given(
    st.sampled_from(["", "/api"]),
    st.sampled_from(["", "/v1"]),
    st.lists(
        st.sampled_from(["/", "\\", "\t", "v1", "evil.test", "@", "?", "#", ".", "http:"]),
        max_size=8,
    ).map("".join),
)
def test_mapping_never_leads_elsewhere(strip: str, base: str, rest: str) -> None:
    """What points at the upstream comes back to this origin, by browsers' rules too."""
    mapped = route("/", strip=strip, base=base).public_location("http://api:4000/" + rest)
    as_browsers_read = mapped.replace("\t", "").replace("\\", "/")
    assert urlsplit(urljoin("https://app.test/x", as_browsers_read)).netloc == "app.test"


@pytest.mark.parametrize("read", [lambda r: r.inject, lambda r: r.envelope is not None])
def test_without_a_route_nothing_is_done(read: Callable[[Route], bool]) -> None:
    """The stand-in neither injects nor wraps."""
    assert not read(UNROUTED)
    assert UNROUTED.strip_cookies
    assert UNROUTED.on_unauthorized == "pass"
