"""A store's URL says where it is, or what is wrong with it, and never shows a password."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.store_url import StoreUrl, parse_store_url

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("memory:", {"kind": "memory"}),
    ("MEMORY:", {"kind": "memory"}),
    ("sqlite:///var/lib/sidecar/store.db", {"kind": "sqlite", "path": "/var/lib/sidecar/store.db"}),
    ("sqlite:////tmp/store.db", {"kind": "sqlite", "path": "/tmp/store.db"}),  # noqa: S108 - no file
    ("sqlite:///a%20b/c%3F.db", {"kind": "sqlite", "path": "/a b/c?.db"}),
    ("redis://host", {"kind": "redis", "hosts": (("host", 6379),)}),
    ("redis://host/", {"kind": "redis", "hosts": (("host", 6379),)}),
    ("redis://10.0.0.1:7000/15", {"hosts": (("10.0.0.1", 7000),), "database": 15}),
    ("redis://[::1]:7000", {"hosts": (("::1", 7000),)}),
    ("redis://[fd00::1]", {"hosts": (("fd00::1", 6379),)}),
    ("redis://:pw@host", {"username": None, "password": "pw"}),
    ("redis://app:p%40s%3As%2F%25%C3%A9@host", {"username": "app", "password": "p@s:s/%é"}),
    ("redis://app:a@b@host", {"username": "app", "password": "a@b", "hosts": (("host", 6379),)}),
    ("rediss://host", {"kind": "redis", "tls": True, "ca": None}),
    (
        "rediss://host?ca=/ca.pem&cert=/c%20d.pem&key=/k.pem",
        {"tls": True, "ca": "/ca.pem", "cert": "/c d.pem", "key": "/k.pem"},
    ),
    (
        "redis+sentinel://a,b:26380,[::1]:1/main",
        {"kind": "sentinel", "hosts": (("a", 26379), ("b", 26380), ("::1", 1)), "service": "main"},
    ),
    ("redis+sentinel://:pw@a/my%20main/3", {"service": "my main", "database": 3, "password": "pw"}),
    (
        "redis+sentinel://a/m?sentinel_username=s&sentinel_password=t",
        {"sentinel_username": "s", "sentinel_password": "t", "password": None},
    ),
    ("rediss+sentinel://a/m?ca=/ca.pem", {"kind": "sentinel", "tls": True, "ca": "/ca.pem"}),
    ("redis+cluster://a,b:7000", {"kind": "cluster", "hosts": (("a", 6379), ("b", 7000))}),
    ("redis+cluster://u:p@a/0", {"kind": "cluster", "username": "u", "password": "p"}),
    ("rediss+cluster://a?ca=/ca.pem", {"kind": "cluster", "tls": True, "ca": "/ca.pem"}),
]


@pytest.mark.parametrize(("url", "wanted"), GOOD, ids=[url for url, _ in GOOD])
def test_what_a_url_says(url: str, wanted: dict[str, Any]) -> None:
    """Each form, with what it leaves to defaults."""
    parsed = parse_store_url(url)
    assert {name: getattr(parsed, name) for name in wanted} == wanted


BAD: list[tuple[str, str]] = [
    ("", "must be a URL; use one of memory:"),
    ("memory", "must be a URL; use one of"),
    ("redis", "must be a URL"),
    ("redis://host#x", "must be a URL"),
    ("redis://ho\nst", "must be a URL"),
    ("redis://host\n", "must be a URL"),
    ("postgres://host/db", "unknown kind of store; use one of memory: | sqlite"),
    ("memory://", 'use "memory:"'),
    ("memory:x", 'use "memory:"'),
    ("sqlite:store.db", "absolute path; use sqlite:///var"),
    ("sqlite:/store.db", "absolute path"),
    ("sqlite://store.db", "absolute path"),
    ("sqlite://", "must have the path of a file"),
    ("sqlite:///", "must have the path of a file"),
    ("sqlite:///dir/", "must have the path of a file"),
    ("sqlite:///a%00b", "must have the path of a file"),
    ("sqlite:///a?mode=ro", "unknown option for this kind of store; remove it"),
    ("redis:", "host or host:port"),
    ("redis://", "host or host:port"),
    ("redis:///0", "host or host:port"),
    ("redis://host:0", "a port from 1 to 65535"),
    ("redis://host:65536", "a port from 1 to 65535"),
    ("redis://host:", "a port from 1 to 65535"),
    ("redis://ho st", "host or host:port"),
    ("redis://::1", "host or host:port"),
    ("redis://a,b", "use redis+sentinel:// or redis+cluster://"),
    ("redis://host/x", "must have a number as its database, such as /0"),
    ("redis://host/-1", "must have a number as its database, such as /0"),
    ("redis://host/0/1", "must have a number as its database, such as /0"),
    ("redis://host/²", "must have a number as its database, such as /0"),
    ("redis://name@host", "name:password@ or :password@"),
    ("redis://u:%zz@host", "two hexadecimal digits after each %"),
    ("redis://u:%ff@host", "in UTF-8"),
    ("redis://host?ca=/ca.pem", "unknown option for this kind of store; remove it"),
    ("rediss://host?verify=no", "use ca, cert, key"),
    ("rediss://host?cert=/c.pem", "use ?cert=FILE&key=FILE"),
    ("rediss://host?ca=/a&ca=/b", "each once"),
    ("rediss://host?ca", "?name=value"),
    ("redis+sentinel://a:1", "must have the name of the service"),
    ("redis+sentinel://a:1/", "must have the name of the service"),
    ("redis+sentinel://a:1/main/x", "must have a number as its database, such as /0"),
    ("redis+sentinel://a,,b/main", "host or host:port"),
    ("redis+cluster://a/1", "only database 0"),
    ("redis+cluster://a?sentinel_password=x", "unknown option for this kind of store; remove it"),
]


@pytest.mark.parametrize(("url", "remedy"), BAD, ids=[url for url, _ in BAD])
def test_what_is_wrong_with_it(url: str, remedy: str) -> None:
    """One sentence with the cause and what would be right."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_store_url(url)
    assert type(caught.value) is ValueError
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:hunter2@host:x",
        "redis://app:hunter2/3@host",
        "redis://app:hun/hunter2@host",
        "redis://app:#hunter2@host",
        "redis://app:?hunter2@host",
        "redis://app:hunter2%@host",
        "redis://hunter2@host",
        "redis://app:hunter2@host/db",
        "redis+sentinel://app:hunter2@host",
        "redis+cluster://app:hunter2@host/1",
        "redis+sentinel://host/m?sentinel_password=hunter2&sentinel_password=hunter2",
        "redis+sentinel://host/m?password=hunter2",
        "rediss://host?hunter2=x",
        "hunter2",
        "hunter2:x",
        "hunter2://host",
        "memory:hunter2",
        "sqlite:hunter2",
    ],
)
def test_a_password_is_in_no_message(url: str) -> None:
    """Even where it is not written as one should, and so stands somewhere else."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_store_url(url)
    assert "hunter2" not in str(caught.value)
    assert "app" not in str(caught.value)


def test_a_password_is_in_no_repr() -> None:
    """Nor are names of logins."""
    url = "redis+sentinel://user1:word1@h/m?sentinel_username=user2&sentinel_password=word2"
    parsed = parse_store_url(url)
    assert (parsed.username, parsed.sentinel_password) == ("user1", "word2")
    for secret in ("user1", "word1", "user2", "word2"):
        assert secret not in repr(parsed)


@pytest.mark.parametrize(
    ("url", "is_shared", "is_remote"),
    [
        ("memory:", False, False),
        ("sqlite:///f", True, False),
        ("redis://h", True, True),
        ("redis+sentinel://h/m", True, True),
        ("redis+cluster://h", True, True),
    ],
)
def test_who_shares_it(url: str, is_shared: bool, is_remote: bool) -> None:
    """Nobody, the processes of one machine, or other machines too."""
    parsed = parse_store_url(url)
    assert (parsed.is_shared, parsed.is_remote) == (is_shared, is_remote)


@given(st.text(max_size=60) | st.from_regex(r"(redis|rediss|sqlite|redis\+sentinel)://.{0,40}"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """With `ValueError` and nothing else."""
    try:
        parsed = parse_store_url(text)
    except ValueError as error:
        assert type(error) is ValueError
    else:
        assert isinstance(parsed, StoreUrl)
