"""Paths that two servers could read differently are refused, and redirects stay on the origin."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import target
from sidecar.core.errors import BadRequest
from sidecar.core.target import (
    MAX_LOCAL,
    MOST_ESCAPES,
    is_host,
    is_local_path,
    local_reference,
    normal_origin,
    normalise,
    origin_form,
    origin_of,
    prefix_key,
    split_target,
)

ORIGIN = "https://app.test"

# What paths are made of, with everything that has been used to hide a dot segment.
PIECES = st.sampled_from(
    [
        *("/", "//", ".", "..", ";", ";x=1", "a", "b c", "~", "@", ":", "\\", "#", "?", "é", "\t"),
        *(
            "%2e",
            "%2E",
            "%2f",
            "%2F",
            "%5c",
            "%5C",
            "%3b",
            "%3B",
            "%3f",
            "%23",
            "%00",
            "%0d",
            "%41",
        ),
        *("%25", "%252e", "%252f", "%255c", "%253b", "%253F", "%2523", "%2500", "%25%32%65"),
        *("%c0%ae", "%C0%AF", "%e0%80%ae", "%E0%80%AF", "%25c0%25ae", "%", "%g1", "%u002e", "\x7f"),
    ]
)
PATHS = st.lists(PIECES, max_size=8).map(lambda pieces: "/" + "".join(pieces))


def accepted(path: str) -> str | None:
    try:
        return normalise(path)
    except BadRequest:
        return None


def segments_of(octets: bytes) -> set[bytes]:
    """The segments that the laxest of servers sees: odd slashes, parameters and tails cut off."""
    for odd, plain in (
        (b"\xc0\xae", b"."),
        (b"\xe0\x80\xae", b"."),
        (b"\xc0\xaf", b"/"),
        (b"\xe0\x80\xaf", b"/"),
        (b"\\", b"/"),
    ):
        octets = octets.replace(odd, plain)
    return {re.split(rb"[;?#\0]", segment)[0] for segment in octets.split(b"/")}


@given(PATHS)
def test_no_accepted_path_has_a_dot_segment_however_often_it_is_decoded(path: str) -> None:
    """Raw, decoded once and decoded twice (T17)."""
    if accepted(path) is None:
        return
    octets = path.encode()
    for _ in range(3):
        assert not segments_of(octets) & {b".", b".."}
        octets = unquote_to_bytes(octets)


@given(PATHS)
def test_what_policy_sees_and_what_is_forwarded_name_the_same_resource(path: str) -> None:
    """Normalising decodes unreserved characters only, and once is enough."""
    seen = accepted(path)
    if seen is None:
        return
    assert unquote_to_bytes(seen) == unquote_to_bytes(path)
    assert seen.count("/") == path.count("/")
    assert accepted(seen) == seen


@given(PATHS, st.from_regex(r"(\?[!-\"$-~]{0,20})?", fullmatch=True))
def test_path_and_query_stay_as_sent(path: str, query: str) -> None:
    """Splitting takes nothing off and puts nothing on."""
    try:
        split = split_target(path + query)
    except BadRequest:
        return
    assert "".join(split[:2]) == path + query


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/", "/"),
        ("/api/users", "/api/users"),
        ("/%61pi/%7Euser", "/api/~user"),
        ("/a%2fb", "/a%2Fb"),
        ("/a//b/", "/a//b/"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a..b/.well-known/...", "/a..b/.well-known/..."),
        ("/file.;v=1", "/file.;v=1"),
        ("/100%25", "/100%25"),
        ("/100%2541", "/100%2541"),
        ('/x"<>^`{|}', '/x"<>^`{|}'),
    ],
)
def test_routes_see_the_normalised_path(path: str, seen: str) -> None:
    """RFC 3986 6.2.2: unreserved escapes decoded, hexadecimal digits upper-case, nothing else."""
    assert normalise(path) == seen


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../x",
        "/a/./b",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/%2e%2e/x",
        "/.%2E/x",
        "/a%2f..%2fb",
        "/%252e%252e/x",
        "/%252e%252e%252fx",
        "/..%5cx",
        "/..%255cx",
        "/..%3b/x",
        "/..%253b/x",
        "/..%3fx",
        "/..%23x",
        "/..%2500/x",
        "/%c0%ae%c0%ae/x",
        "/%25c0%25ae%25c0%25ae/x",
        "/%e0%80%ae./x",
        "/a\\b",
        "/a%5cb",
        "/a%",
        "/a%2",
        "/a%zz",
        "/%u002e%u002e/x",
        "/a\x00b",
        "/a%00b",
        "/a%0d%0ab",
        "/a\tb",
        "/a b",
        "/a#b",
        "/a%7f",
        "/a\udcffb",
    ],
)
def test_paths_that_servers_dispute_are_refused(path: str) -> None:
    """Each of these is read in two ways by servers in use."""
    with pytest.raises(BadRequest):
        normalise(path)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "example.test:443",
        "http://example.test/x",
        "x",
        "?x",
        "/x?a#b",
        "/x?a b",
        "/x?a\tb",
        "/x?a\x7f",
        "/x?\x00",
    ],
)
def test_targets_not_in_origin_form_are_refused(target: str) -> None:
    """Absolute-form, authority-form and `*` could name another server (T15)."""
    with pytest.raises(BadRequest):
        split_target(target)


def test_a_refusal_holds_nothing_of_the_request() -> None:
    """What is refused may be a secret, and its text goes to the log."""
    with pytest.raises(BadRequest) as refusal:
        split_target("/canary-4711/../x?canary-4711")
    assert "canary" not in f"{refusal.value} {refusal.value.detail}"


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("app.test", True),
        ("app.test:8080", True),
        ("127.0.0.1:1", True),
        ("[::1]:8080", True),
        ("[2001:db8::1]", True),
        ("xn--bcher-kva.test", True),
        ("a_b.test", True),
        ("", False),
        ("app.test, evil.test", False),
        ("app.test:80:80", False),
        ("app.test:http", False),
        ("app.test:65535", True),
        ("app.test:00080", True),
        ("app.test:65536", False),
        ("[::1]:99999", False),
        ("app.test:999999", False),
        ("user@app.test", False),
        ("app.test/x", False),
        ("app.test?x", False),
        ("app test", False),
        ("app.test\t", False),
        ("::1", False),
        ("[::1", False),
        ("[app.test]", False),
        ("app.test\\evil.test", False),
        ("bücher.test", False),
        ("app.test\n", False),
    ],
)
def test_a_host_has_the_syntax_of_one(value: str, is_one: bool) -> None:
    """RFC 9110 7.2: nothing that could end up as more than a host (T16)."""
    assert is_host(value) is is_one


LOCAL = [
    "/",
    "/dash",
    "/?tab=1",
    "/#top",
    "/dash?x=1&y=2",
    "/dash#frag",
    "/a/b/c",
    "/caf%C3%A9",
    "/x?next=%2Fy",
    "/x?u=http%3A%2F%2Fevil.test",
    "/x?u=//evil.test",
    "/[id]/x",
    "/a-b_c~d.e",
    "/user@app.test",
    "/a:b",
]
FOREIGN = [
    "",
    "dash",
    "?x",
    "//evil.test",
    "///evil.test",
    "/\\evil.test",
    "\\\\evil.test",
    "\\/evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "/\r/evil.test",
    "\t//evil.test",
    " //evil.test",
    "\x00//evil.test",
    "/%2fevil.test",
    "/%2Fevil.test",
    "/%5cevil.test",
    "/%09/evil.test",
    "/%0d%0aSet-Cookie:x=1",
    "/.//evil.test",
    "/..//evil.test",
    "/a//evil.test",
    "/./\\evil.test",
    "/;//evil.test",
    "/%2e%2e//evil.test",
    "https://evil.test",
    "https:evil.test",
    "hTTps:/evil.test",
    "javascript:alert(1)",
    "data:text/html,x",
    "/x\r\nSet-Cookie: a=1",
    "/x y",
    "/é",
    "/\u017f",
    "/\u212a",
    "/\uff0fevil.test",
    "/x\udcff",
    "/<script>",
    '/"x',
    "/" + "a" * MAX_LOCAL,
]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("/s?q=a|b", "/s?q=a%7Cb"),
        ("/s?q={id:1}", "/s?q=%7Bid:1%7D"),
        ("/s?q=a^b`c`", "/s?q=a%5Eb%60c%60"),
        ("/s?path=C:\\temp", "/s?path=C:%5Ctemp"),
        ("/s p?q=a b", "/s%20p?q=a%20b"),
        ("/é?q=\u4e2d#ü", "/%C3%A9?q=%E4%B8%AD#%C3%BC"),
        ("/a%20b?q=%7C", "/a%20b?q=%7C"),
        ("/wiki//Page", "/wiki//Page"),
        ('/x?"<>"', "/x?%22%3C%3E%22"),
    ],
)
def test_what_browsers_send_as_it_is_is_encoded(value: str, place: str) -> None:
    """A deep link survives the login."""
    assert local_reference(value) == place


@pytest.mark.parametrize(
    "value",
    [
        "",
        "//evil.test",
        "/\\evil.test",
        "/x\\..\\..\\evil",
        "/ //evil.test",
        "/é//evil.test",
        "/\t/evil.test",
        "/x\r\nSet-Cookie: a=1",
        "/x\udcff",
        "/.//evil.test",
        "/;//evil.test",
        "https://evil.test",
        "javascript:alert(1)",
    ],
)
def test_what_leads_elsewhere_is_no_place_however_it_is_encoded(value: str) -> None:
    assert local_reference(value) is None


def test_a_path_of_too_many_escapes_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand of them take 25 ms and more, and lead nowhere (T92)."""
    assert normalise("/" + "%41" * MOST_ESCAPES) == "/" + "A" * MOST_ESCAPES
    monkeypatch.setattr(target, "_decode_unreserved", pytest.fail)
    with pytest.raises(BadRequest, match="too many"):
        normalise("/" + "%25" * (MOST_ESCAPES + 1))


def test_what_is_too_long_for_a_place_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes as many calls as it has characters (T92)."""
    monkeypatch.setattr(target, "quote", pytest.fail)
    assert local_reference("/" + "{" * MAX_LOCAL) is None


@pytest.mark.parametrize("value", LOCAL)
def test_a_local_path_is_honoured(value: str) -> None:
    """`next` brings people back to where they were."""
    assert is_local_path(value)


@pytest.mark.parametrize("value", FOREIGN)
def test_nothing_else_is(value: str) -> None:
    """T31 and T32: no redirect leaves the origin, and none breaks the header."""
    assert not is_local_path(value)


def browser_host(value: str) -> str:
    """Where a browser goes (WHATWG URL): tabs and newlines out, a backslash is a slash."""
    cleaned = re.sub(r"[\t\n\r]", "", value.strip("".join(map(chr, range(33)))))
    path = re.split("[?#]", cleaned, maxsplit=1)[0]
    return str(urlsplit(urljoin(ORIGIN, path.replace("\\", "/") + cleaned[len(path) :])).netloc)


EVIL = st.one_of(
    st.lists(
        st.sampled_from(
            [
                *("/", "//", "\\", ".", "..", ";", ":", "@", "?", "#", "%2f", "%5c", "%09", "\t"),
                *(
                    "\n",
                    "\r",
                    "\x00",
                    " ",
                    "evil.test",
                    "https:",
                    "a",
                    "[",
                    "]",
                    "%",
                    "\u3002",
                    "é",
                ),
            ]
        ),
        max_size=8,
    ).map("".join),
    st.text(max_size=20),
    st.text(max_size=20).map(lambda text: "/" + text),
)


@given(EVIL)
def test_an_accepted_redirect_stays_on_the_origin_by_every_rule(value: str) -> None:
    """By RFC 3986, by WHATWG's rules, and once more after a server decoded it."""
    encoded = local_reference(value)
    if encoded is None:
        assert not is_local_path(value)
        return
    value = encoded
    assert value.isascii()
    assert value.isprintable()
    assert urljoin(ORIGIN, value).startswith(ORIGIN + "/")
    assert browser_host(value) == "app.test"
    decoded = unquote_to_bytes(re.split("[?#]", value)[0]).decode("latin-1")
    assert browser_host(decoded) == "app.test"


@given(st.text(st.sampled_from("abc/-._~:@!$&'()*+,;="), max_size=20))
def test_what_is_refused_plain_is_refused_encoded(text: str) -> None:
    """An escape never makes a redirect acceptable that would not be without it."""
    escaped = "/" + quote(text, safe="/")
    if is_local_path(escaped):
        assert accepted("/" + text) is not None


@pytest.mark.parametrize(("path", "key"), [("/", ""), ("/api/", "/api"), ("/api", "/api")])
def test_a_prefix_is_the_same_with_and_without_its_slash(path: str, key: str) -> None:
    """`/api/` also matches `/api`."""
    assert prefix_key(path) == key


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (b"https://app.test", b"https://app.test"),
        (b"HTTPS://App.TEST", b"https://app.test"),
        (b"https://app.test:443", b"https://app.test"),
        (b"https://app.test:0443", b"https://app.test"),
        (b"https://app.test:", b"https://app.test"),
        (b"http://app.test:443", b"http://app.test:443"),
        (b"http://app.test:80", b"http://app.test"),
        (b"https://app.test:8443", b"https://app.test:8443"),
        (b"https://[::1]:443", b"https://[::1]"),
        (b"https://[2001:DB8::1]:8443", b"https://[2001:db8::1]:8443"),
        (b"null", b"null"),
        (b"", b""),
        (b"https://app.test/", b"https://app.test/"),
        (b"https://App.test@evil.test", b"https://App.test@evil.test"),
        (b"https://app.test, https://app.test", b"https://app.test, https://app.test"),
        (b"https://app.test:443\n", b"https://app.test:443\n"),
        (b"https://app.test:x", b"https://app.test:x"),
    ],
)
def test_origins_are_compared_in_normal_form(written: bytes, normal: bytes) -> None:
    """RFC 6454 6.2: case of scheme and host, and the default port, make no other origin."""
    assert normal_origin(written) == normal


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (b"https://App.test:443/x?y#z", b"https://app.test"),
        (b"https://app.test", b"https://app.test"),
        (b"https://app.test?x", b"https://app.test"),
        (b"https://app.test.evil.test/", b"https://app.test.evil.test"),
        (b"https://app.test@evil.test/", b"https://app.test@evil.test/"),
        (b"https://app.test\\@evil.test/", b"https://app.test\\@evil.test/"),
        (b"/x", b"/x"),
        (b"", b""),
    ],
)
def test_the_origin_of_a_referer(url: bytes, origin: bytes) -> None:
    """A user name before another host is no origin."""
    assert origin_of(url) == origin


@given(st.binary(max_size=40))
def test_normal_forms_of_origins_stay(value: bytes) -> None:
    """Whatever a client sends can be compared."""
    for found in (value, b"https://" + value):
        assert normal_origin(normal_origin(found)) == normal_origin(found)
        assert origin_of(origin_of(found)) == origin_of(found)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://a.test/x?y", b"A.test:80", "/x?y"),
        ("https://a.test:443", b"a.test", "/"),
        ("HTTP://a.test?y", b"a.test", "/?y"),
        ("http://a.test/\udcff", b"a.test", "/\udcff"),
        ("http://a.test#f", b"a.test", "/#f"),  # which `split_target` refuses
        ("http://b.test/", b"a.test", None),
        ("http://a.test:81/", b"a.test", None),
        ("http://a.test:443/", b"a.test", None),
        ("http://u@a.test/", b"a.test", None),
        ("http://a.test\\/", b"a.test", None),
        ("ftp://a.test/", b"a.test", None),
        ("//a.test/", b"a.test", None),
        ("http:///", b"", None),
        ("http://a.test/", b"", None),
        ("a.test:80", b"a.test:80", None),
        ("*", b"a.test", None),
        ("", b"a.test", None),
    ],
)
def test_an_absolute_form_means_what_the_host_means(
    target: str, host: bytes, path: str | None
) -> None:
    """RFC 9112 3.2.2; servers that go by the other one would be asked for somebody else."""
    if path is None:
        with pytest.raises(BadRequest):
            origin_form(target, host)
    else:
        assert origin_form(target, host) == path
