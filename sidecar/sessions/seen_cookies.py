"""How the applications set their session cookies, learned from their responses as they pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from sidecar.core.attributes import Attributes, attributes_in
from sidecar.core.cookies import base_of, is_expiring, set_cookie_name
from sidecar.sessions.bounds import Latest

MOST_HOSTS: Final = 256  # clients choose them, where no public one is configured
LONGEST_HOST: Final = 253
NOTHING: Final[Mapping[str, Attributes]] = MappingProxyType({})


class SeenCookies:
    """The attributes of the last Set-Cookie of each configured name, for each host apart.

    An application may derive them from the host that it is asked for: what one tenant is given, or
    a stranger who makes up a host, says nothing of another's. Bounded by names and hosts.
    """

    __slots__ = ("_bases", "_hosts")

    def __init__(self, bases: Collection[str], before: SeenCookies | None = None) -> None:
        """`before` is what was seen with the configuration that held until now."""
        self._bases: Final = bases
        self._hosts: Final[Latest[Mapping[str, Attributes]]] = (
            Latest(MOST_HOSTS) if before is None else before._hosts
        )

    def at(self, host: str) -> Mapping[str, Attributes]:
        """The attributes by name, as they were seen on a host."""
        return self._hosts.get(host, NOTHING)

    def learn(self, set_cookie: bytes, host: str, now: float) -> None:
        """Notes a Set-Cookie value of an upstream that goes to a browser, unless it expires."""
        base = base_of(set_cookie_name(set_cookie), self._bases)
        if base in self._bases and not is_expiring(set_cookie, now) and len(host) <= LONGEST_HOST:
            seen = self._hosts.get(host, NOTHING)  # handed out already, and so never changed
            self._hosts.put(host, {**seen, base: attributes_in(set_cookie)})
