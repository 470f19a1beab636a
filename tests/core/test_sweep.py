"""What a logout takes away: what may be there, and the likely ones first if room is short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.attributes import Attributes, CookieKeys, Scope
from sidecar.core.cookies import MAX_PRESENTED
from sidecar.core.record import replace
from sidecar.core.sweep import LINE_BYTES, Sweep, Swept

DATES = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
HTTPS = Scope(https=True, host="app.example.com")
LIBRARY = ("__Secure-", "", "__Host-")


def lines(
    *presented: str,
    https: bool = True,
    domains: tuple[str, ...] = (),
    paths: tuple[str, ...] = ("/",),
) -> list[str]:
    sweep = Sweep((Swept("app"),), domains, paths)
    return [line.decode() for line in sweep.lines(presented, replace(HTTPS, https=https))]


def test_every_prefix_of_a_base_name_expires_as_browsers_demand() -> None:
    past = f"{DATES}; HttpOnly; SameSite=Lax"
    assert lines() == [
        f"app=; Path=/; {past}; Secure",
        f"__Secure-app=; Path=/; {past}; Secure",
        f"__Host-app=; Path=/; {past}; Secure",
    ]


def test_host_names_are_left_out_on_plain_http() -> None:
    assert [line.split("=")[0] for line in lines(https=False)] == ["app", "__Secure-app"]


def test_presented_names_expire_and_strangers_do_not() -> None:
    names = [line.split("=")[0] for line in lines("app.1", "a", "app-x", "app.0", https=False)]
    assert names == ["app.1", "app.0", "app", "__Secure-app"]


def test_every_domain_and_path_has_a_line_of_its_own() -> None:
    scopes = [
        line.partition("; Max-Age")[0]
        for line in lines(domains=("example.com",), paths=("/", "/x"), https=False)
        if line.startswith("app=")
    ]
    assert scopes == [
        "app=; Path=/",
        "app=; Path=/x",
        "app=; Path=/; Domain=example.com",
        "app=; Path=/x; Domain=example.com",
    ]


def test_a_host_name_takes_neither_domain_nor_another_path() -> None:
    found = [
        line
        for line in lines("__Host-app.0", domains=("example.com",), paths=("/x",))
        if line.startswith("__Host-")
    ]
    assert len(found) == 3
    assert all("; Path=/; " in line and "Domain" not in line for line in found)


def test_presented_names_expire_in_both_partitions_on_https() -> None:
    """And so that a cross-site frame may do it, where nothing but SameSite=None is set."""
    found = [line for line in lines("app", "app.0") if "Partitioned" in line]
    assert [line.split("=")[0] for line in found] == ["app", "app.0"]
    assert all(line.endswith("; SameSite=None; Secure; Partitioned") for line in found)
    assert not [line for line in lines("app", https=False) if "Partitioned" in line]
    assert f"app=; Path=/; {DATES}; HttpOnly; SameSite=None; Secure" in lines("app")


def test_a_cookie_expires_where_and_how_its_application_was_seen_to_set_it() -> None:
    """Presented or not; a Lax one stays Lax, and a Partitioned one goes from both partitions."""
    seen = {
        "app": Attributes(path="/app", same_site="None", http_only=False, partitioned=True),
        "other": Attributes(domain="example.com", same_site="Strict"),
    }
    sweep = Sweep((Swept("app"), Swept("other")))
    for presented in ((), ("app", "other")):
        found = [one.decode() for one in sweep.lines(presented, replace(HTTPS, seen=seen))]
        unpartitioned = f"app=; Path=/app; {DATES}; SameSite=None; Secure"
        assert unpartitioned in found
        assert f"{unpartitioned}; Partitioned" in found
        assert (
            f"other=; Path=/; Domain=example.com; {DATES}; HttpOnly; SameSite=Strict; Secure"
            in found
        )


def test_what_is_configured_stands_above_what_was_seen() -> None:
    keys = CookieKeys(path="/shop", same_site="Strict", http_only=True, partitioned=False)
    seen = {"app": Attributes(path="/app", same_site="None", http_only=False, partitioned=True)}
    sweep = Sweep((Swept("app", keys),))
    assert sweep.lines(["app"], replace(HTTPS, seen=seen))[0].decode() == (
        f"app=; Path=/shop; {DATES}; HttpOnly; SameSite=Strict; Secure"
    )


def test_the_places_are_those_configured_and_those_seen() -> None:
    seen = {"app": Attributes(path="/app", domain="example.com")}
    sweep = Sweep((Swept("app"), Swept("b", CookieKeys(path="/b"))), ("test",), ("/",))
    domains, paths = sweep.places(replace(HTTPS, seen=seen))
    assert domains == frozenset(("example.com", "test"))
    assert paths == frozenset(("/", "/app", "/b"))


def test_dates_make_way_before_any_line_does() -> None:
    sweep = Sweep((Swept("app"), Swept("b")), ("example.com", "app.example.com"))
    whole = sweep.lines(["app"], HTTPS)
    size = sum(len(line) + LINE_BYTES for line in whole)
    assert sweep.lines(["app"], HTTPS, size) == whole
    shorter = sweep.lines(["app"], HTTPS, size - 1)
    assert len(shorter) == len(whole)
    assert not [line for line in shorter if b"Expires" in line]


@pytest.mark.parametrize("room", [-1, 0, 300, 1000, 1500, 2500])
def test_what_is_presented_always_goes_and_the_rest_while_there_is_room(room: int) -> None:
    swept = Swept("app"), Swept("authjs.session-token", prefixes=LIBRARY)
    sweep = Sweep(swept, ("example.com", "app.example.com"), ("/", "/app"))
    whole = sweep.lines(["app", "app.0"], HTTPS)
    found = sweep.lines(["app", "app.0"], HTTPS, room)
    assert [line.replace(b" Expires=Thu, 01 Jan 1970 00:00:00 GMT;", b"") for line in whole][
        : len(found)
    ] == found
    needed = 2 * 3 * 2  # names, domains with none, and paths
    assert len(found) >= needed
    assert all(line.startswith((b"app=", b"app.0=")) for line in found[:needed])
    size = sum(len(line) + LINE_BYTES for line in found)
    assert len(found) == needed or size <= room


def test_after_what_is_presented_come_the_likely_forms_of_each_name() -> None:
    """A library's name with its prefix on https, and without one on plain http."""
    swept = Swept("app"), Swept("authjs.session-token", prefixes=LIBRARY)
    found = [line.decode() for line in Sweep(swept, ("example.com",)).lines([], HTTPS)]
    names = [line.split("=")[0] for line in found]
    assert names[:4] == [
        "app",
        "__Secure-authjs.session-token",
        "__Secure-app",
        "authjs.session-token",
    ]
    assert not any("Domain" in line for line in found[:6])


def test_names_that_stay_have_no_line() -> None:
    sweep = Sweep((Swept("app"), Swept("b")))
    found = sweep.lines(["app.0", "b"], HTTPS, stays=lambda name: "app" in name)
    assert found
    assert not [line for line in found if b"app" in line]


@given(st.lists(st.text()), st.booleans())
def test_no_client_text_reaches_a_line(presented: list[str], https: bool) -> None:
    assert set(lines(*presented, https=https)) == set(lines(https=https))


def test_the_number_of_lines_is_bounded() -> None:
    many = [f"app.{index}" for index in range(10_000)]
    assert len(lines(*many)) == 2 * MAX_PRESENTED + 3
