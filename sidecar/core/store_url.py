"""Where the shared store is: the forms of `store.url`, taken apart without looking anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote

import msgspec

Kind: TypeAlias = Literal["memory", "sqlite", "redis", "sentinel", "cluster"]

# RFC 3986 appendix B, without a fragment. `urlsplit` takes one host only, and drops characters.
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?")
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

_SENTINEL_LOGIN: Final = frozenset({"sentinel_username", "sentinel_password"})
_TLS_FILES: Final = frozenset({"ca", "cert", "key"})
_NONE: Final[frozenset[str]] = frozenset()
_QUOTING: Final = (
    "write the characters / ? # @ : % of a name or password as %2F %3F %23 %40 %3A %25"
)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store's place. Neither `repr` nor any error message holds a name or password."""

    kind: Kind
    path: str = ""
    """sqlite: the file, absolute."""
    hosts: tuple[tuple[str, int], ...] = ()
    """redis: the server; sentinel: the sentinels; cluster: nodes to begin with."""
    service: str = ""
    """sentinel: the name of the master."""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    """A file of PEM certificates to trust instead of the system's."""
    cert: str | None = None
    """A file with the client's own certificate, and `key` with its key."""
    key: str | None = None

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same entries, and a restart finds them again."""
        return self.kind != "memory"

    @property
    def is_remote(self) -> bool:
        """Whether other machines can share it."""
        return self.kind not in ("memory", "sqlite")


class _Parts(msgspec.Struct, frozen=True):
    """What stands between the delimiters: `authority` None where there is no `//`."""

    authority: str | None
    path: str
    query: Mapping[str, str]


def parse_store_url(url: str) -> StoreUrl:
    """Takes a `store.url` apart. Raises `ValueError` with the cause and what would be right.

    The forms, `rediss` in place of `redis` for TLS:

        memory:
        sqlite:///absolute/path
        redis://[name:password@]host[:6379][/database]
        redis+sentinel://[name:password@]host[:26379],…/service[/database]
        redis+cluster://[name:password@]host[:6379],…

    As a query: `ca`, `cert` and `key` (PEM files) with TLS; `sentinel_username` and
    `sentinel_password`, where the sentinels themselves want a login.
    """
    match = _URL.fullmatch(url)
    if match is None or not url.isprintable():
        raise ValueError(f"must be a URL; use one of {_FORMS}")
    scheme, authority, path, query = match.groups()
    parse = _SCHEMES.get(scheme.lower())
    if parse is None:
        raise ValueError(f"unknown kind of store; use one of {_FORMS}")
    return parse(_Parts(authority, path, _pairs(query)))


def _memory(parts: _Parts) -> StoreUrl:
    if parts.authority is not None or parts.path or parts.query:
        raise ValueError('must not have a place or options in memory; use "memory:"')
    return StoreUrl("memory")


def _sqlite(parts: _Parts) -> StoreUrl:
    if parts.authority != "":
        raise ValueError(
            "must have an absolute path; use sqlite:///var/lib/sidecar/store.db, for example"
        )
    path = _decoded(parts.path)
    if "\0" in path or path.endswith("/") or not path:
        raise ValueError(
            "must have the path of a file; use sqlite:///var/lib/sidecar/store.db, for example"
        )
    _allow(parts.query, _NONE)
    return StoreUrl("sqlite", path="/" + path.lstrip("/"))


def _redis(parts: _Parts, *, tls: bool) -> StoreUrl:
    url = _served("redis", parts, tls=tls, database=_database(parts.path.removeprefix("/")))
    if len(url.hosts) != 1:
        raise ValueError(
            "must have one server; use redis+sentinel:// or redis+cluster:// for several"
        )
    return url


def _sentinel(parts: _Parts, *, tls: bool) -> StoreUrl:
    name, _, database = parts.path.removeprefix("/").partition("/")
    service = _decoded(name)
    if not service:
        raise ValueError(
            "must have the name of the service; use redis+sentinel://host:26379,host:26379/service"
        )
    return _served("sentinel", parts, tls=tls, service=service, database=_database(database))


def _cluster(parts: _Parts, *, tls: bool) -> StoreUrl:
    if _database(parts.path.removeprefix("/")) != 0:
        raise ValueError("must have no database, because a cluster has only database 0; remove it")
    return _served("cluster", parts, tls=tls)


def _served(
    kind: Kind, parts: _Parts, *, tls: bool, service: str = "", database: int = 0
) -> StoreUrl:
    """What the forms of Redis have in common: a login, hosts, and files for TLS."""
    of_sentinel = kind == "sentinel"
    username, password, hosts = _authority(parts, _SENTINEL_PORT if of_sentinel else _REDIS_PORT)
    options = parts.query
    _allow(options, (_TLS_FILES if tls else _NONE) | (_SENTINEL_LOGIN if of_sentinel else _NONE))
    if ("cert" in options) != ("key" in options):
        raise ValueError(
            "must have both cert and key for a client certificate; use ?cert=FILE&key=FILE"
        )
    return StoreUrl(
        kind,
        hosts=hosts,
        service=service,
        database=database,
        username=username,
        password=password,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        tls=tls,
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
    )


_SCHEMES: Final[Mapping[str, Callable[[_Parts], StoreUrl]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": lambda parts: _redis(parts, tls=False),
    "rediss": lambda parts: _redis(parts, tls=True),
    "redis+sentinel": lambda parts: _sentinel(parts, tls=False),
    "rediss+sentinel": lambda parts: _sentinel(parts, tls=True),
    "redis+cluster": lambda parts: _cluster(parts, tls=False),
    "rediss+cluster": lambda parts: _cluster(parts, tls=True),
}
_FORMS: Final = (
    "memory: | sqlite:///path | redis://host | rediss://host"
    " | redis+sentinel://host,host/service | redis+cluster://host,host"
)


def _authority(
    parts: _Parts, default_port: int
) -> tuple[str | None, str | None, tuple[tuple[str, int], ...]]:
    """The name, the password and the hosts. `redis://:password@host` has no name."""
    login, at, places = (parts.authority or "").rpartition("@")
    username, colon, password = login.partition(":")
    if at and not colon:
        raise ValueError(f"must have its login as name:password@ or :password@; {_QUOTING}")
    hosts = tuple(_host(place, default_port) for place in places.split(","))
    return _decoded(username) or None, _decoded(password) or None, hosts


def _host(place: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(place)
    port = int(match[2] or default_port) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(
            f"must have each server as host or host:port, with a port from 1 to 65535; {_QUOTING}"
        )
    return match[1].strip("[]"), port


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ValueError(f"must have a number as its database, such as /0; {_QUOTING}")
    return int(text)


def _allow(query: Mapping[str, str], allowed: frozenset[str]) -> None:
    if not query.keys() <= allowed:
        known = f"use {', '.join(sorted(allowed))}" if allowed else "remove it"
        raise ValueError(f"unknown option for this kind of store; {known}")


def _pairs(query: str | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in (query or "").split("&") if query else ():
        name, _, value = pair.partition("=")
        if not value or name in pairs:
            raise ValueError("must have options as ?name=value&name=value, each once")
        pairs[name] = _decoded(value)
    return pairs


def _decoded(text: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        raise ValueError(f"must have two hexadecimal digits after each %; {_QUOTING}")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("must have escaped characters in UTF-8") from None
