"""Cookie text goes through byte for byte; what matches goes, what is to expire expires."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import cookies
from sidecar.core.attributes import PLAIN
from sidecar.core.cookies import (
    MAX_CHUNKS,
    MAX_CLEARED,
    MAX_ROWS,
    MOST_JOINED,
    CookieJar,
    NameMatcher,
    collect_chunks,
    everywhere,
    is_expiring,
    parent_domains,
    set_cookie_name,
    set_line,
    takes_away,
    with_set_cookies,
)

MATCHER = NameMatcher(["app", "__session", "__Host-own"])


@pytest.mark.parametrize(
    ("header", "name", "values"),
    [
        ("a=1; b=2; a=3", "a", ["1", "3"]),
        ("a=1;b=2", "b", ["2"]),
        ("a=x=y=", "a", ["x=y="]),
        (" a = 1 ;\tb\t=\t2\t", "a", ["1"]),
        (" a = 1 ;\tb\t=\t2\t", "b", ["2"]),
        ("a", "a", []),
        ("a", "", ["a"]),
        ("=a", "", ["a"]),
        ('a="x; y"', "a", ['"x']),
        ("A=1", "a", []),
        ("a\xa0=1", "a", []),
        ("", "", []),
    ],
)
def test_values_are_found_by_exact_name(header: str, name: str, values: list[str]) -> None:
    assert list(CookieJar.parse(header).values(name)) == values


@given(st.text(st.characters(max_codepoint=255)))
def test_the_raw_segments_are_the_header(header: str) -> None:
    jar = CookieJar.parse(header)
    assert ";".join(raw for _, _, raw in jar.pairs) == header
    assert jar.without(jar.named(NameMatcher(["no-such-cookie"]))) == header


@pytest.mark.parametrize(
    ("header", "rest"),
    [
        ("app=1", ""),
        ("app=1; a=2", "a=2"),
        ("a=2; app=1", "a=2"),
        ("a=2; app=1; b=3", "a=2; b=3"),
        ("a=2;app=1;b=3", "a=2;b=3"),
        ("app.0=1; app.1=2; a=2; app.12=3", "a=2"),
        ("__Host-app=1; __Secure-app.3=2; a=2", "a=2"),
        ("__session__0=1; __session=2; __Secure-__session__1=3; a=2", "a=2"),
        ("own=1; __Secure-own=2; __Host-own=3; a=2", "a=2"),
        ('app=1; j={"a":"b, c"};  odd ;; =x; q="y z" ', 'j={"a":"b, c"};  odd ;; =x; q="y z" '),
        ("app =1; \xa0app\x85=2; \x1capp=3; a=2", "a=2"),
        ("app=1; ; \t", ""),
        ("app-other=1; application=2; app.x=3; app.=4; App=5; app.-1=6; x-app=7; app_0=8", None),
        ("__Host-=1; __Host-__Secure-app=2; app.0.0=3; app.²=4; =app; app", None),
    ],
)
def test_without_takes_out_what_matches_and_nothing_else(header: str, rest: str | None) -> None:
    jar = CookieJar.parse(header)
    assert jar.without(jar.named(MATCHER)) == (header if rest is None else rest)


COOKIES = st.tuples(
    st.sampled_from(["app", "app.0", "__Secure-app.7", "other", "app-x", "", " app"]),
    st.text(st.characters(max_codepoint=255, exclude_characters=";")),
)


@given(st.lists(COOKIES))
def test_without_leaves_no_match_and_keeps_the_order_of_the_rest(
    cookies: list[tuple[str, str]],
) -> None:
    jar = CookieJar.parse("; ".join(f"{name}={value}" for name, value in cookies))
    rest = CookieJar.parse(jar.without(jar.named(MATCHER)))
    kept = [pair[:2] for pair in jar.pairs if not MATCHER.matches(pair[0])]
    assert [pair[:2] for pair in rest.pairs] == kept


def test_a_matcher_of_no_names_matches_nothing() -> None:
    matcher = NameMatcher([])
    assert not any(map(matcher.matches, ["", ".0", "__0", "__Host-", "__Host-.0", "a"]))


def test_regular_expression_characters_in_names_are_literal() -> None:
    matcher = NameMatcher(["a.b+c"])
    assert matcher.matches("a.b+c.0")
    assert not matcher.matches("axb+c")
    assert not matcher.matches("axbbc.0")


def test_a_jars_repr_shows_no_values() -> None:
    assert "canary" not in repr(CookieJar.parse("a=canary; canary"))


def joined(header: str) -> tuple[str, ...] | None:
    chunks = collect_chunks(CookieJar.parse(header), "app", ".")
    return None if chunks is None else chunks.joined


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("app=1; app2.0=1; app__0=1; xapp.0=1", None),
        ("app.0=a; app.1=b", ("ab",)),
        ("app.1=b; app.0=a", ("ab",)),
        ("app.0=a; app.1=", ("a",)),
        ("app.0=a; app.0=x; app.1=b; app.1=y", ("ab", "xy")),
        ("app.0=a; app.0=x; app.1=b", ("ab", "xb")),
        ("app.1=b", ()),
        ("app.0=a; app.2=c", ()),
        ("app.0=a; app.01=b", ()),
        ("app.0=a; app.1000000=b", ()),
        ("; ".join(f"app.{i}=x" for i in range(MAX_CHUNKS)), ("x" * MAX_CHUNKS,)),
        ("; ".join(f"app.{i}=x" for i in range(MAX_CHUNKS + 1)), ()),
    ],
)
def test_only_whole_sets_of_chunks_are_joined(
    header: str, expected: tuple[str, ...] | None
) -> None:
    assert joined(header) == expected


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"app=1; Path=/", "app"),
        (b"app=", "app"),
        (b" app\t = 1", "app"),
        (b"app=a=b;c=d", "app"),
        (b"=app=1", "app"),
        (b" = app=1", "app"),
        (b"app", ""),
        (b"", ""),
        (b"; app=1", ""),
        (b"\xff=1", "\xff"),
    ],
)
def test_a_set_cookie_lines_name_is_the_one_that_comes_back(value: bytes, name: str) -> None:
    assert set_cookie_name(value) == name


# -- what an answer leaves ------------------------------------------------------------------------

NOW = 1_800_000_000.0
PAST = b"Thu, 01 Jan 1970 00:00:00 GMT"
LATER = b"Wed, 01 Jan 2098 00:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "expires"),
    [
        (b"a=1", False),
        (b"a=", False),
        (b"a=; Max-Age=0", True),
        (b"a=1; max-age=-5; Path=/", True),
        (b"a=1; Max-Age=60", False),
        (b"a=1; Expires=" + PAST, True),
        (b"a=1; expires=Thu, 01-Jan-1970 00:00:00 GMT", True),
        (b"a=1; Expires=" + LATER, False),
        # Max-Age counts before Expires, and what cannot be read counts for nothing.
        (b"a=1; Max-Age=60; Expires=" + PAST, False),
        (b"a=1; Max-Age=0; Expires=" + LATER, True),
        (b"a=1; Max-Age=x; Expires=" + PAST, True),
        (b"a=1; Expires=yesterday", False),
        (b"a=1; Expires=", False),
        (b"a=max-age=0", False),
        # Numbers and dates that no integer and no clock holds.
        (b"a=1; Max-Age=--5", False),
        (b"a=1; Max-Age=" + b"9" * 5000, False),
        (b"a=1; Max-Age=-" + b"9" * 5000, True),
        (b"a=1; Max-Age=00", True),
        (b"a=1; Expires=Thu, 99999999999999999 Jan 1970 00:00:00 GMT", False),
        # The last one counts that can be read, and a date has no time zone but this.
        (b"a=1; Max-Age=0; Max-Age=x", True),
        (b"a=1; Max-Age=0; Max-Age=60", False),
        (b"a=1; Expires=" + PAST + b"; Expires=never", True),
        (b"a=1; Expires=Thu, 01 Jan 1970 00:00:00 +99999999999999999", True),
        # The dates of RFC 6265 5.1.1, which are more than those of HTTP.
        (b"a=1; Expires=Thu, 01-Jan-70 00:00:01 GMT", True),
        (b"a=1; Expires=1 feb 1999 1:2:3pm", True),
        (b"a=1; Expires=00:00:00 1970 Januar 01", True),
        (b"a=1; Expires=Thu Jan 1 00:00:00 1970", True),
        (b"a=1; Expires=Fri, 01 Jan 69 00:00:00 GMT", False),
        (b"a=1; Expires=Thu, 01 Jan 1970", False),
        (b"a=1; Expires=Thu, 01 Jan 1970 24:00:00 GMT", False),
        (b"a=1; Expires=Sat, 31 Feb 1970 00:00:00 GMT", False),
        (b"a=1; Expires=Mon, 01 Jan 1600 00:00:00 GMT", False),
        (b"a=1; Expires=0", False),
        (b"a=1; Expires=" + b" " * 1024 + PAST, True),
        (b"a=1; Expires=x" + b" " * 1024 + PAST, False),
    ],
)
def test_what_takes_a_cookie_away(value: bytes, expires: bool) -> None:
    """RFC 6265 5.1.1, 5.2.1, 5.2.2 and 5.3 step 3."""
    assert is_expiring(value, NOW) is expires


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        (b"a=; Max-Age=0", True),
        (b"a=; Max-Age=0; Path=/", True),
        (b"a=; Path=/", True),
        (b'a=""', True),
        (b"a=gone; Max-Age=0", True),
        (b"a=; Max-Age=0; Path=/app", True),
        (b"a=; Max-Age=0; Domain=.Example.com", True),
        # Other cookies of the same name.
        (b"a=; Max-Age=0; Path=/legacy", False),
        (b"a=; Max-Age=0; Domain=other.example.com", False),
        (b"a=1", False),
    ],
)
def test_what_takes_this_cookie_away(value: bytes, takes: bool) -> None:
    """A cookie of another Path or Domain is another one (RFC 6265 5.3 step 11)."""
    assert takes_away(value, NOW, {"example.com"}, ("/", "/app")) is takes


@pytest.mark.parametrize("value", ["a b", "a;b", 'a"b', "a,b", "a\\b", "a\r\nX: y", "\xe9", "\0"])
def test_no_value_leaves_its_cookie(value: str) -> None:
    """RFC 6265 4.1.1: whatever a provider hands out as a token."""
    with pytest.raises(ValueError, match="cannot hold"):
        set_line("a", value, PLAIN, None)


@pytest.mark.parametrize(
    ("at", "date"),
    [
        (1_800_000_000.5, b"Fri, 15 Jan 2027 08:00:00 GMT"),
        (1_800_000_000_000.0, b"Fri, 31 Dec 9999 23:59:59 GMT"),  # in milliseconds
        (2.0**53, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (-1.0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
    ],
)
def test_a_date_has_four_digits_for_its_year(at: float, date: bytes) -> None:
    """RFC 9110 5.6.7: whatever an application says of its session's end, its cookie can be set."""
    assert b"; Expires=%b; " % date in set_line("a", "b", PLAIN, at)


@pytest.mark.parametrize(
    ("header", "values", "after"),
    [
        ("a=1; b=2", [b"a=; Max-Age=0"], "b=2"),
        ("a=1; b=2", [b"a=3; Path=/"], "b=2; a=3"),
        ("a=1", [b"a=; Max-Age=0", b"a.0=x", b"a.1=y"], "a.0=x; a.1=y"),
        ("a.0=x; a.1=y", [b"a.0=; Max-Age=0", b"a.1=; Max-Age=0", b"a=z"], "a=z"),
        ("a=1; a=2", [b"a=; Max-Age=0"], ""),
        ("", [b"a=1"], "a=1"),
    ],
)
def test_what_a_browser_presents_after_an_answer(
    header: str, values: list[bytes], after: str
) -> None:
    """Growing and shrinking sessions as Auth.js writes them included."""
    assert with_set_cookies(header, values, NOW) == after


def test_each_cookie_that_is_set_is_not_compared_with_each_presented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An upstream may set five hundred, and a client present a thousand (T92)."""
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            return not self == other

    name_of = cookies.set_cookie_name
    monkeypatch.setattr(cookies, "set_cookie_name", lambda value: Name(name_of(value)))
    header = "; ".join(f"a{number}=1" for number in range(100))
    values = [b"a%d=2" % number for number in range(100)]
    assert with_set_cookies(header, values, NOW) == header.replace("=1", "=2")
    assert compared < 1000


def test_way_out_reaches_the_host_and_configured_domains() -> None:
    """A sibling domain sets its cookies on the common parent (T28)."""
    lines = everywhere(b"theme=dark; bomb=xxxxxxxx", ["app.example.com", "example.com"])
    assert [line.split(b"; HttpOnly")[0] for line in lines if line.startswith(b"bomb=")] == [
        b"bomb=; Path=/" + domain + b"; Max-Age=0; Expires=" + PAST
        for domain in (b"", b"; Domain=app.example.com", b"; Domain=example.com")
    ]


@pytest.mark.parametrize(
    ("host", "domains"),
    [
        ("app.example.com", ("app.example.com", "example.com")),
        ("localhost", ()),
        ("127.0.0.1", ()),
        ("::1", ()),
    ],
)
def test_domains_above_a_host(host: str, domains: tuple[str, ...]) -> None:
    assert parent_domains(host) == domains


def test_way_out_is_bounded_and_echoes_only_names() -> None:
    """The largest first; what is no token is no cookie that a server has set."""
    header = "; ".join(f"c{i}={'x' * i}" for i in range(100)) + "; a b=1; =x; \xe9=1"
    lines = everywhere(header.encode("latin-1"), ())
    assert len(lines) == MAX_CLEARED
    assert lines[0].startswith(b"c99=;")
    assert not any(b"xx" in line for line in lines)


def test_duplicated_chunks_are_joined_a_bounded_number_of_times() -> None:
    """A stranger chooses how many there are, and each set costs its whole length."""
    jar = CookieJar.parse("app.0=;" * 5000 + "app.1=" + "x" * 5000)
    chunks = collect_chunks(jar, "app", ".")
    assert chunks is not None
    assert len(chunks.joined) == MAX_ROWS


def test_a_long_chunk_is_not_joined_again_for_each_short_one() -> None:
    """What is opened of a header is little longer than the header, however it is cut (T92)."""
    jar = CookieJar.parse("app.0=x;" * MAX_ROWS + "app.1=" + "x" * 50_000)
    chunks = collect_chunks(jar, "app", ".")
    assert chunks is not None
    assert 1 < len(chunks.joined) < MAX_ROWS
    assert sum(map(len, chunks.joined)) <= MOST_JOINED * len(jar.header)
