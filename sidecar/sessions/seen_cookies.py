"""How the applications set their session cookies, learned from their responses as they pass."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sidecar.core.attributes import Attributes, attributes_in
from sidecar.core.cookies import base_of, is_expiring, set_cookie_name


class SeenCookies:
    """The attributes of the last Set-Cookie of each configured name; so it is bounded by these."""

    __slots__ = ("_bases", "attributes")

    def __init__(self, bases: Collection[str]) -> None:
        self._bases: Final = bases
        self.attributes: Final[dict[str, Attributes]] = {}

    def learn(self, set_cookie: bytes, now: float) -> None:
        """Notes a Set-Cookie value of an upstream that goes to a browser, unless it expires."""
        base = base_of(set_cookie_name(set_cookie), self._bases)
        if base in self._bases and not is_expiring(set_cookie, now):
            self.attributes[base] = attributes_in(set_cookie)
