"""Routes, compiled: which upstream a path belongs to, and what is done on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from sidecar.core.access import RouteGate
from sidecar.core.envelope import EnvelopeRule
from sidecar.core.identity import IdentityField
from sidecar.core.path_table import PathTable
from sidecar.core.record import replace
from sidecar.core.request import FieldRule
from sidecar.core.target import (
    LONGEST_REMEMBERED,
    normal_origin,
    prefix_key,
    split_authority,
)

NOSNIFF: Final = b"X-Content-Type-Options: nosniff\r\n"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One route with every default resolved and everything rendered that does not vary."""

    path: str
    kind: str  # api | page
    upstream: str
    session: str  # required | optional | none
    inject: bool
    strip_cookies: bool
    envelope: EnvelopeRule | None
    on_unauthorized: str  # logout | envelope | pass
    authorization: str | None  # pass | session: what a client's own bearer is good for
    sources: frozenset[int] | None  # whose sessions give the credential; None: all
    strip: str  # prefix taken off before forwarding; "" for none
    strip_segments: int
    base: str  # path of the upstream's URL, put in front; "" for none
    fields: FieldRule | None  # which of the client's fields pass, if not by the common rule
    host: bytes | None  # Host to send; None keeps the client's
    upstream_origins: tuple[str, ...]  # scheme://host[:port], to map Location back
    errors: str | None = None  # envelope | problem | graphql: the shape of errors; None: by client
    gates: tuple[RouteGate, ...] = ()  # who may use it: whom each of them lets in
    identity: tuple[IdentityField, ...] = ()  # fields that tell the upstream who the user is
    observes: Route | None = None  # the rules that are only noted; this route lets all pass
    vouches: bool = field(init=False)  # the upstream acts for the user: by a token, or a name
    authorities: frozenset[bytes] = field(init=False)  # host[:port] that mean the upstream
    maps_host: bool = field(init=False)  # the Host that it is sent does too, and its paths differ
    is_private: bool = field(init=False)  # no shared cache may keep an answer
    by_cookie: bool = field(init=False)  # answers depend on the Cookie field
    reads_answers: bool = field(init=False)  # JSON is wrapped or looked into, and so decoded
    nosniff: bytes = field(init=False)  # a line of every answer, in place of the upstream's; or b""

    def __post_init__(self) -> None:
        """What answers carry follows from the keys above."""
        vouches = self.inject or bool(self.identity)
        made = {
            "vouches": vouches,
            "is_private": self.session == "required",
            "by_cookie": self.session == "required" or vouches,
            "reads_answers": self.envelope is not None
            or (self.inject and self.on_unauthorized != "pass"),
            "nosniff": NOSNIFF if self.kind == "api" and self.observes is None else b"",
            "authorities": _authorities(self.upstream_origins, self.host),
            "maps_host": self.host is None and bool(self.strip or self.base),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def owns_cors(self) -> bool:
        """Whether only the sidecar says which origins may read answers (T66)."""
        return self.vouches or (self.kind == "api" and self.observes is None)

    def upstream_target(self, path: str, query: str) -> str:
        """The request target for the upstream: prefix exchanged, the rest byte for byte."""
        if self.strip_segments:
            path = _after_segments(path, self.strip_segments)
        return f"{self.base}{path}{query}"

    def public_location(self, location: str, sent_host: bytes = b"") -> str:
        """Maps a Location back to the client's view (behaviour: forwarding); foreign ones stay.

        The upstream's own are those that name its host or the Host that it was sent, under either
        scheme: it may believe X-Forwarded-Proto. `sent_host` is that of the client, where
        `maps_host`. A path that has the stripped prefix is of an upstream that knows of it, by
        X-Forwarded-Prefix for example.
        """
        authority, rest = split_authority(location)
        if authority is None:
            if not location.startswith("/"):
                return location
        elif not (authority in self.authorities or _is_authority(authority, sent_host)):
            return location
        else:
            location = rest if rest.startswith("/") else "/" + rest
        base = self.base
        if _is_below(base, location):  # by the upstream's own view, so without the prefix
            return _no_authority(self.strip + location[len(base) :])
        return _no_authority(location if _is_below(self.strip, location) else self.strip + location)


def _is_below(prefix: str, location: str) -> bool:
    """Whether a path-absolute reference leads to `prefix` or below; never, if that is empty."""
    if not prefix or not location.startswith(prefix):
        return False
    return location[len(prefix) : len(prefix) + 1] in ("", "/", "?", "#")


def _is_authority(authority: bytes, host: bytes) -> bool:
    """Whether a Host value, unless it is empty, names the same as `split_authority` has found."""
    return host != b"" and normal_origin(b"http://" + host) == b"http://" + authority


def _authorities(origins: Iterable[str], host: bytes | None) -> frozenset[bytes]:
    """What names an upstream in a Location: its own hosts, and the Host that it is sent."""
    written = [origin.encode() for origin in origins]
    if host is not None:
        written += [b"%b://%b" % (origin.partition(b":")[0], host) for origin in written[:1]]
    return frozenset(normal_origin(one).partition(b"://")[2] for one in written)


def _no_authority(location: str) -> str:
    """A path-absolute reference to where `location` leads on this host.

    What browsers take for `//` would name another host: they read a backslash as a slash and
    leave tabs out (WHATWG URL, basic URL parser).
    """
    path = location.replace("\t", "")
    if path[:1] not in ("/", "\\"):
        return "/" + path
    return "/" + path.lstrip("/\\") if path[1:2] in ("/", "\\") else path


def _after_segments(path: str, count: int) -> str:
    at = 0
    for _ in range(count):
        at = path.find("/", at + 1)
        if at < 0:
            return "/"
    return path[at:]


UNROUTED: Final = Route(
    path="none",
    kind="api",
    upstream="",
    session="none",
    inject=False,
    strip_cookies=True,
    envelope=None,
    on_unauthorized="pass",
    authorization=None,
    sources=None,
    strip="",
    strip_segments=0,
    base="",
    fields=None,
    host=None,
    upstream_origins=(),
)
"""Stands in where a request has no route, or none yet."""


def _gated(route: Route, authorization: str | None) -> Route:
    """The route with a session that is required, by its own rules even if they are only noted."""
    rules = route.observes or route
    if (rules.session, rules.authorization) == ("required", authorization):
        return rules
    return replace(rules, session="required", authorization=authorization)


class RouteTable:
    """The routes by their paths.

    A route with `session: required` holds for every spelling of its path: what some server may
    read as a path below it is served as its spelling says, but with a session of somebody whom that
    route lets in, and a client's own bearer stands for one only if the required route lets it.
    What such spellings are, and what becomes of `endpoints`, `PathTable` says. So it is with a page
    whose content the same upstream may give in another format, at `/account.html` for example.
    """

    __slots__ = ("_by_prefix", "_gated", "_often", "_paths")

    def __init__(self, routes: Iterable[Route], endpoints: Iterable[str] = ()) -> None:
        self._by_prefix: Final = {prefix_key(route.path): route for route in routes}
        self._paths: Final = PathTable(
            {route.path: route.session == "required" for route in self._by_prefix.values()},
            endpoints,
        )
        self._gated: Final = {
            (route, authorization): _gated(route, authorization)
            for route in self._by_prefix.values()
            for authorization in (route.authorization, None)
        }
        self._often: Final = lru_cache(maxsize=4096)(self._match)

    @property
    def gates(self) -> tuple[RouteGate, ...]:
        """The rules of all routes over who may use them."""
        return tuple(gate for route in self._by_prefix.values() for gate in route.gates)

    def match(self, path: str) -> Route | None:
        """Returns the route of the longest prefix of `path` (normalised), or None.

        Its session is required if any reading of the path leads below a route that requires one.
        """
        return self._often(path) if len(path) <= LONGEST_REMEMBERED else self._match(path)

    def _match(self, path: str) -> Route | None:
        found = self._paths.find(path)
        if found is None:
            return None
        route = self._by_prefix[found.prefix]
        pages = [self._by_prefix[prefix] for prefix in found.pages]
        gates = [
            *(self._by_prefix[prefix] for prefix in found.closed),
            *(page for page in pages if page.upstream == route.upstream),
        ]
        if not gates:
            return route
        # A client's own bearer opens no gate that it would not open in the usual spelling.
        is_open = all(gate.authorization is not None for gate in gates)
        gated = self._gated[route, route.authorization if is_open else None]
        closed = tuple(dict.fromkeys(one for gate in gates for one in gate.gates))
        others = tuple(one for one in closed if one not in gated.gates)
        return replace(gated, gates=(*gated.gates, *others)) if others else gated
