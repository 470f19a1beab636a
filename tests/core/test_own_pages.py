"""The own pages of the sidecar and of its users: what they may hold, and what they say."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from types import MappingProxyType

import pytest

from sidecar.core.errors import ProxyError
from sidecar.core.own_pages import (
    BUILT_IN,
    CONFIRM,
    ERROR,
    LOGIN_FAILED,
    LOGOUT,
    STYLE,
    WORDS,
    OwnPages,
    UnusablePage,
    page_names,
    parse_page,
    words_for,
)

NONE = OwnPages(MappingProxyType({}))


def own(**pages: str) -> OwnPages:
    return OwnPages({name: parse_page(text, name) for name, text in pages.items()})


def codes(kind: type[ProxyError]) -> set[str]:
    return {kind.code}.union(*(codes(one) for one in kind.__subclasses__()))


def test_every_code_has_words_for_people() -> None:
    """None of them is the code itself, or the programmers' message."""
    assert codes(ProxyError) - WORDS.keys() == set()
    for title, text in WORDS.values():
        assert re.fullmatch(r"[A-Z][^_{}<>]+[a-z?]", title)
        assert re.fullmatch(r"[A-Z][^_{}<>]+[.?]", text)
    assert words_for("consent_required", LOGIN_FAILED)[0] == "The login failed"
    assert words_for("what is this") == WORDS["internal_error"]


def test_built_in_page_is_for_every_screen_and_loads_nothing() -> None:
    head, body = NONE.page("no_route", 404, "id-1", details="<p>d</p>", actions="<a>x</a>")
    text = body.decode()
    for part in ("<title>There is no such page</title>", "<p>d</p>", "<a>x</a>", "404", "id-1"):
        assert part in text
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "color-scheme: light dark" in text
    assert "{{" not in text
    assert not re.search(r"(src|href)=|<script|@import|url\(", text)
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'".encode() in head
    assert b"default-src 'none'" in head
    assert b"frame-ancestors 'none'" in head
    assert b"unsafe" not in head


def test_what_strangers_write_is_escaped() -> None:
    """A provider's code is; `details` and `actions` are the sidecar's own HTML."""
    _, body = own(error="{{code}} {{request_id}} {{actions}}").page(
        'a<b>"', 400, "<i>", actions="<a>"
    )
    assert body == b"a&lt;b&gt;&quot; &lt;i&gt; <a>"


def test_the_page_that_says_most_stands_first() -> None:
    pages = own(
        **{
            "login_expired": "of the code",
            LOGIN_FAILED: "of the group {{actions}}",
            "503": "of the status",
            ERROR: "of all {{actions}}",
        }
    )
    assert pages.page("login_expired", 400, "", group=LOGIN_FAILED)[1] == b"of the code"
    assert pages.page("access_denied", 503, "", group=LOGIN_FAILED)[1] == b"of the group "
    assert pages.page("overloaded", 503, "")[1] == b"of the status"
    assert pages.page("no_route", 404, "")[1] == b"of all "
    asked = pages.page(CONFIRM, 200, "", group=LOGOUT, actions="<form>")
    assert asked[0] == BUILT_IN.head, "a question is no error"
    assert own(**{LOGOUT: "{{actions}}!"}).page(CONFIRM, 200, "", group=LOGOUT)[1] == b"!"


def test_styles_are_named_by_their_hashes() -> None:
    """As browsers compute them: with LF for every line end. Other styles do not hold."""
    page = parse_page("<style>a{\r\n}</style><p>x<style>b&lt;{}</style>", "404")
    hashes = [b64encode(sha256(text).digest()).decode() for text in (b"a{\n}", b"b&lt;{}")]
    assert f"style-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'; ".encode() in page.head
    assert b"style-src 'none'" in parse_page("x", "404").head


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{titel}}", "unknown placeholder {{titel}}; use title, message"),
        ("{{ }}", "unknown placeholder"),
        ("<script>1</script>", "must be without <script>"),
        ("<p onclick=x>", 'must be without onclick="…"'),
        ('<p style="x">', 'must be without style="…"; put styles into <style>'),
        ("<img src=/logo.svg>", "<img src> must be a data: URL"),
        ("<link rel=stylesheet href=https://x/y.css>", "<link href> must be a data: URL"),
        ("<iframe src=//x>", "<iframe src> must be a data: URL"),
        ('<a title="{{message}}">', "must not have a placeholder inside the tag <a>"),
        ("<a {{message}}>", "must not have a placeholder inside the tag <a>"),
        ("<{{title}}>", "must not have a placeholder right behind <"),
        ("<style>{{title}}</style>", "must not have a placeholder inside <style>"),
    ],
)
def test_what_a_page_must_not_hold(text: str, words: str) -> None:
    """What its policy would block, and values where escaping does not hold them."""
    with pytest.raises(UnusablePage) as caught:
        parse_page(f"<p>a</p>{text}", "404")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [ERROR, LOGOUT, LOGIN_FAILED, "not_allowed", "headers_too_large"])
def test_page_without_its_buttons_is_of_no_use(name: str) -> None:
    with pytest.raises(UnusablePage, match=r"must have \{\{actions\}\}"):
        parse_page("{{title}}", name)
    assert parse_page("{{ actions }}", name).names == ("actions",)


def test_names_of_pages() -> None:
    """Those of codes and of statuses, and three that stand for several."""
    names = page_names()
    assert {"404", "503", "not_allowed", "login_loop", ERROR, LOGOUT, LOGIN_FAILED} <= names
    assert names.isdisjoint({"200", "303", CONFIRM, "index"})
