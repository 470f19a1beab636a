"""Everything that depends on the configuration alone, finished: what requests are served by."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

import msgspec

from sidecar.core.brake import BrakeRule
from sidecar.core.bridge_rule import BridgeRule
from sidecar.core.config import Config
from sidecar.core.config.routes import Ejection
from sidecar.core.config.values import Statuses
from sidecar.core.cookies import CookieJar, NameMatcher
from sidecar.core.cors import CorsRule
from sidecar.core.credential import Source
from sidecar.core.csrf import CsrfRule
from sidecar.core.envelope import Document, holds
from sidecar.core.formats.login_session import LoginCookieSource, LoginStoreSource
from sidecar.core.formats.sealed import SealedSource
from sidecar.core.formats.signed_jwt import RemoteKeys, SignedOpener
from sidecar.core.login_loop import TraceCookie
from sidecar.core.logout_rule import LogoutRule
from sidecar.core.oidc.attempt import AttemptCookies
from sidecar.core.oidc.relying_party import OidcClient
from sidecar.core.oidc.session_index import SessionIndex
from sidecar.core.onward import OnwardTickets
from sidecar.core.own_pages import OwnPages
from sidecar.core.path_mask import PathMask
from sidecar.core.route_table import Route, RouteTable
from sidecar.core.sweep import Sweep
from sidecar.core.tickets import Signer
from sidecar.core.upstream_url import UNIX


class UnauthorizedRule(msgspec.Struct, frozen=True):
    """Which answers say that the credential is no longer good (behaviour: 401)."""

    statuses: frozenset[int]
    messages: frozenset[str]
    matches: tuple[tuple[tuple[str, ...], Any], ...]
    brake: BrakeRule | None = None

    def is_told_by(self, document: Document, status: int, *, is_whole: bool = True) -> bool:
        """Whether a JSON body says so, as far as it has come if it is not whole.

        A message counts below status 400 only if the object says nothing else: it may be a stored
        text. Matches count at any status, and in each element of an array too.
        """
        members = document.members
        if members is not None and "message" in members and self._is_named(document):
            if status >= 400:
                return True
            if is_whole and _says_nothing_else(document):
                return True
        return bool(self.matches) and any(holds(document, *match) for match in self.matches)

    def _is_named(self, document: Document) -> bool:
        message = document.message
        return isinstance(message, str) and message in self.messages


# Members that come along with a message, and are no content.
_ABOUT_A_MESSAGE: Final = frozenset(
    (
        *("message", "code", "status", "success", "isError"),
        *("error", "errors", "timestamp", "path", "data", "errorData"),
    )
)


def _says_nothing_else(document: Document) -> bool:
    members = document.members or {}
    return members.keys() <= _ABOUT_A_MESSAGE and all(
        document.lookup((name,)) is None for name in ("data", "errorData") if name in members
    )


class LoginPolicy(msgspec.Struct, frozen=True):
    """The sidecar's own login (behaviour: own login). `base` begins the paths of its endpoints.

    `asks_userinfo`: UserInfo is asked for what the id_token lacks.
    """

    base: str
    client: OidcClient
    source: LoginCookieSource | LoginStoreSource
    attempts: AttemptCookies
    onward: OnwardTickets
    trace: TraceCookie
    index: SessionIndex
    asks_userinfo: bool

    @property
    def is_stored(self) -> bool:
        """Whether sessions are kept in the store, and not in their cookies."""
        return isinstance(self.source, LoginStoreSource)


class Endpoint(msgspec.Struct, frozen=True):
    """A path that the sidecar answers itself: by what, and what it is called where counted."""

    name: str
    route: Route


class UpstreamServer(NamedTuple):
    """One server of an upstream, or an address that its name stands for.

    `path` is that of a Unix socket; then `host` is empty and `port` is 0.
    """

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class HealthCheck(msgspec.Struct, frozen=True):
    """How the servers of an upstream are checked. Durations in seconds.

    `request` is sent as it is; `statuses` are those of a server that is well.
    """

    request: bytes
    interval: float
    timeout: float
    statuses: Statuses


class UpstreamAddress(msgspec.Struct, frozen=True):
    """Where the servers of an upstream listen and how long they may take. Durations in seconds."""

    name: str
    servers: tuple[UpstreamServer, ...]
    tls: ssl.SSLContext | None
    connect: float
    retry: float
    head: float
    idle: float
    pool_idle: float
    pool_max: int
    pool_max_age: float
    header_limit: int
    ejection: Ejection | None
    check: HealthCheck | None = None

    @property
    def origin(self) -> str:
        """Its address as it is logged, or all of them."""
        return ", ".join(map(self.url_of, self.servers))

    def url_of(self, server: UpstreamServer) -> str:
        """One server's address as it is logged."""
        if server.path is not None:
            return str(server)
        return f"{'http' if self.tls is None else 'https'}://{server}"


@dataclass(frozen=True, slots=True)
class Policy:
    """The compiled configuration.

    `source_names` are what logs and metrics call the sources.
    `session_names` are the cookies of sessions, `hidden_names` those that no API is shown;
    `endpoints` is by the path that routes match; `mask` makes of paths what logs may show.
    """

    config: Config
    routes: RouteTable
    upstreams: Mapping[str, UpstreamAddress]
    sources: tuple[Source, ...]
    source_names: tuple[str, ...]
    session_names: NameMatcher
    hidden_names: NameMatcher
    secrets: tuple[bytes, ...] = field(repr=False)
    signer: Signer
    csrf: CsrfRule
    cors: CorsRule
    bridge: BridgeRule
    logout: LogoutRule
    login: LoginPolicy | None
    endpoints: Mapping[str, Endpoint]
    sweep: Sweep
    clearable: tuple[str, ...]  # domains on which the way out of too many cookies expires them
    unauthorized: UnauthorizedRule
    public_origin: bytes | None
    trusts: TrustedPeers
    pages: OwnPages
    mask: PathMask

    @property
    def public_authority(self) -> tuple[bytes, bytes] | None:
        """Scheme and host of the public origin, where that is configured."""
        if self.public_origin is None:
            return None
        scheme, _, host = self.public_origin.partition(b"://")
        return scheme, host

    @property
    def certificates(self) -> tuple[str, ...]:
        """The files of the certificates that it presents itself, to clients and to upstreams."""
        listeners = (one.tls.cert for one in self.config.listeners if one.tls is not None)
        clients = (one.tls.cert for one in self.config.upstreams.values())
        return tuple(dict.fromkeys((*listeners, *(one for one in clients if one is not None))))

    @property
    def client_authorities(self) -> tuple[str, ...]:
        """The files of the authorities whose clients listeners let in."""
        files = (one.tls.client_ca for one in self.config.listeners if one.tls is not None)
        return tuple(dict.fromkeys(one for one in files if one is not None))

    def routes_of(self, upstream: str) -> tuple[str, ...]:
        """The paths of an upstream's routes."""
        return tuple(one.path for one in self.config.routes if one.upstream == upstream)

    def presents_session(self, cookie: bytes) -> bool:
        """Whether a Cookie header holds a cookie by a session's name, whatever is in it."""
        return bool(CookieJar.parse(cookie.decode("latin-1")).named(self.session_names))

    @property
    def remote_keys(self) -> tuple[RemoteKeys, ...]:
        """The sets of public keys that have to be fetched."""
        openers = [one.opener for one in self.sources if isinstance(one, SealedSource)]
        rings = [one.ring for one in openers if isinstance(one, SignedOpener)]
        return tuple(one for one in rings if isinstance(one, RemoteKeys))


class TrustedPeers:
    """Which peers' X-Forwarded-* are believed."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, trusted: Sequence[str]) -> None:
        self._unix: Final = "unix" in trusted
        self._networks: Final = tuple(
            ip_network(item, strict=False) for item in trusted if item != "unix"
        )

    def includes(self, address: str) -> bool:
        """Whether the peer at `address` (empty: a Unix socket) is trusted."""
        if not address:
            return self._unix
        if not self._networks:
            return False
        peer = ip_address(address.split("%", 1)[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self._networks)
