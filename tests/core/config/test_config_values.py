"""Single values come out in normal form, and what is unsafe or ambiguous is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config import values
from sidecar.core.config.faults import BadValue
from sidecar.core.config.values import Listen

ACCEPTED: list[tuple[Callable[[str], object], str, object]] = [
    (values.parse_listen, "0.0.0.0:8080", Listen("0.0.0.0", 8080)),
    (values.parse_listen, "LocalHost:0", Listen("localhost", 0)),
    (values.parse_listen, "[::1]:80", Listen("::1", 80)),
    (values.parse_listen, "[0:0::1]:80", Listen("::1", 80)),
    (values.parse_listen, "unix:/run/s.sock", Listen("", 0, "/run/s.sock")),
    (values.parse_origin, "https://App.Example.com", "https://app.example.com"),
    (values.parse_origin, "https://a:443/", "https://a"),
    (values.parse_origin, "http://a:8080", "http://a:8080"),
    (values.parse_origin, "http://[::1]:80", "http://[::1]"),
    (values.parse_origin, "HTTP://a", "http://a"),
    (values.parse_upstream_url, "http://api:4000", "http://api:4000"),
    (values.parse_upstream_url, "http://api_1:4000/", "http://api_1:4000"),
    (values.parse_upstream_url, "https://a/base/x/", "https://a/base/x"),
    (values.parse_upstream_url, "unix:/run/app.sock", "unix:/run/app.sock"),
    (values.parse_upstream_url, "unix:/run/app.sock:/", "unix:/run/app.sock"),
    (values.parse_upstream_url, "unix:/run/app.sock:/base/x/", "unix:/run/app.sock:/base/x"),
    (values.parse_status_range, "200-399", (200, 399)),
    (values.parse_status_range, "204", (204, 204)),
    (values.parse_authority, "Api.Example:81", "api.example:81"),
    (values.parse_authority, "[::1]", "[::1]"),
    (values.parse_proxy, "unix", "unix"),
    (values.parse_proxy, "10.0.0.0/8", "10.0.0.0/8"),
    (values.parse_proxy, "10.1.2.3", "10.1.2.3/32"),
    (values.parse_proxy, "fd00::/8", "fd00::/8"),
    (values.parse_proxy, "::ffff:10.0.0.0/104", "10.0.0.0/8"),
    (values.parse_proxy, "::ffff:10.1.2.3", "10.1.2.3/32"),
    (values.parse_path, "/", "/"),
    (values.parse_path, "/caf%C3%A9/", "/caf%C3%A9/"),
    (values.parse_path_pattern, "/users/*/cards/*", "/users/*/cards/*"),
    (values.parse_path_pattern, "/u%73ers/*", "/users/*"),
    (values.parse_log_target, "stdout", "stdout"),
    (values.parse_log_target, "file:///var/log/a b.log", "file:///var/log/a b.log"),
    (values.parse_redirect, "/login?from=x", "/login?from=x"),
    (values.parse_redirect, "https://IdP.example/x?y=z#f", "https://idp.example/x?y=z#f"),
    (values.parse_redirect, "https://idp.example", "https://idp.example/"),
    (values.parse_cookie_path, "/app", "/app"),
    (values.parse_domain, ".Example.com", "example.com"),
    (values.parse_token, "__Host-a.b", "__Host-a.b"),
    (values.parse_name, "api-v1.eu", "api-v1.eu"),
    (values.parse_query_name, "return_to", "return_to"),
    (values.parse_member_path, "a.b", ("a", "b")),
]

REFUSED: list[tuple[Callable[[str], object], tuple[str, ...]]] = [
    (
        values.parse_listen,
        (
            "",
            "8080",
            "a",
            "a:",
            "a:b",
            "a:65536",
            "a:+1",
            "::1:80",
            "[::1]",
            "[a]:1",
            "unix:",
            "unix:run/s",
            "unix:/\x00",
            f"unix:/{'x' * 107}",
            "a b:1",
            "1.2.3:1",
            "256.1.1.1:1",
        ),
    ),
    (
        values.parse_origin,
        (
            "",
            "*",
            "null",
            "a.example",
            "//a",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://a#",
            "https://u@a",
            "https://a:99999",
            "https://a:0",
            "https://ä",
            "https://a\n",
            "https://a b",
            "https://[::1",
            "https://a\\b",
            "https://a:",
            "javascript:alert(1)",
        ),
    ),
    (
        values.parse_upstream_url,
        (
            "api:4000",
            "unix:run/app.sock",
            "unix:",
            "unix:/x:base",
            "unix:/x:/a/../b",
            "unix:/x?y",
            "unix:/" + "x" * 107,
            "http://u:p@a",
            "http://a?x",
            "http://a/../b",
            "http://a//b",
            "http://a/%2e%2e",
            "http://a/%zz",
            "http://a/b c",
        ),
    ),
    (values.parse_status_range, ("", "100", "399-200", "200-", "2xx", "600", "200 - 399")),
    (values.parse_authority, ("", "a/b", "u@a", "a:b", "http://a", "a?b", "a b")),
    (
        values.parse_proxy,
        ("", "localhost", "10.0.0.0/33", "10.0.0.1/8", "*", "::ffff:10.0.0.1/104"),
    ),
    (
        values.parse_path,
        (
            "",
            "api",
            "/a?b",
            "/a#b",
            "//a",
            "/a//b",
            "/./a",
            "/a/..",
            "/%2E%2e/a",
            "/..;x/a",
            "/a\\b",
            "/a b",
            "/%",
            "/%4",
            "/ä",
            "/a\n",
        ),
    ),
    (
        values.parse_redirect,
        (
            "",
            "login",
            "//evil",
            "/\\evil",
            "/a\r\nX: y",
            "/a\tb",
            "/a/../b",
            "javascript:x",
            "/ä",
            "https://u@a/",
            "https://a\\@b",
            "https:///a",
            "data:x",
            "/a\\b",
        ),
    ),
    (values.parse_cookie_path, ("", "a", "/a;b", "/a\n", "/ä")),
    (values.parse_domain, ("", ".", "a b", "1.2.3.4", "a..b", "a:1", "-a", "a;b", "http://a")),
    (values.parse_token, ("", "a b", "a;b", "a=b", "ä", "a\n")),
    (values.parse_name, ("", "a b", "-a", "a/b", "x" * 64, 'a"')),
    (values.parse_query_name, ("", "a b", "a&b", "a=b", "ä")),
    (values.parse_member_path, ("", ".", "a.", "a..b")),
]


@pytest.mark.parametrize(("parse", "text", "expected"), ACCEPTED)
def test_normal_form(parse: Callable[[str], object], text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(("parse", "text"), [(p, text) for p, texts in REFUSED for text in texts])
def test_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(BadValue):
        parse(text)


@pytest.mark.parametrize("value", [None, 1, [], [""], ["a", 1], {"a": 1}])
def test_member_path_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(BadValue):
        values.parse_member_path(value)


def test_member_path_as_a_list_keeps_dots() -> None:
    assert values.parse_member_path(["https://a.b/token", "c"]) == ("https://a.b/token", "c")


@pytest.mark.parametrize("text", ["0.0.0.0:8080", "[::1]:80", "unix:/run/s.sock"])
def test_listen_prints_as_written(text: str) -> None:
    assert str(values.parse_listen(text)) == text


@pytest.mark.parametrize("parse", [parse for parse, _ in REFUSED[:-1]])
@given(text=st.text(max_size=40))
def test_any_text_is_parsed_or_refused_and_normal_forms_stay(
    parse: Callable[[str], object], text: str
) -> None:
    """No parser raises anything but BadValue, and parsing twice changes nothing."""
    try:
        once = parse(text)
    except BadValue:
        return
    assert parse(str(once)) == once


@given(st.text(max_size=40), st.sampled_from(["/", "//", "https://a", "https://a/"]))
def test_redirect_is_one_line_of_visible_ascii_and_never_scheme_relative(
    text: str, start: str
) -> None:
    try:
        target = values.parse_redirect(start + text)
    except BadValue:
        return
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    assert not target.startswith(("//", "/\\"))
