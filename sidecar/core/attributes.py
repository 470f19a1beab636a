"""What a cookie is set with besides its value: as configured, as seen, or as libraries do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from sidecar.core.record import replace

LAX: Final = "Lax"
NONE: Final = "None"
SAME_SITES: Final[Mapping[str, str]] = MappingProxyType(
    {"lax": LAX, "strict": "Strict", "none": NONE}
)
"""The values of SameSite (RFC 6265bis section 4.1.2.7) by how they are compared."""

MAX_ATTRIBUTE: Final = 255
"""Bytes of a Domain or Path that is followed; it goes into every renewed cookie."""


class Attributes(msgspec.Struct, frozen=True):
    """A cookie's attributes but for its lifetime; `domain` is empty for this host only.

    `same_site` is None where none is known; a cookie is set with Lax then.
    """

    domain: str = ""
    path: str = "/"
    same_site: str | None = None
    http_only: bool = True
    partitioned: bool = False
    secure: bool = False


PLAIN: Final = Attributes()


class CookieKeys(msgspec.Struct, frozen=True):
    """What a configuration says of a cookie's attributes. What is None, it leaves open."""

    domain: str | None = None
    path: str | None = None
    same_site: str | None = None
    http_only: bool | None = None
    partitioned: bool | None = None


NO_KEYS: Final = CookieKeys()


class Scope(msgspec.Struct, frozen=True):
    """Where the sidecar sets cookies: whether browsers come by https, to which host, and with what
    attributes the applications there were seen to set cookies, by base name.
    """

    https: bool = False
    host: str = ""
    seen: Mapping[str, Attributes] = msgspec.field(default_factory=lambda: MappingProxyType({}))

    @property
    def own(self) -> Attributes:
        """The attributes of the sidecar's own cookies, which are no other host's."""
        return Attributes(same_site=LAX, secure=self.https)

    def attributes(self, base: str, keys: CookieKeys = NO_KEYS) -> Attributes:
        """The attributes of the cookies of a base name: configured, else seen, else usual.

        A Domain that was seen under another host is not this one's: its browsers would refuse the
        cookie. SameSite=None and Partitioned demand Secure.
        """
        seen = self.seen.get(base, PLAIN)
        if seen.domain and not _is_within(self.host, seen.domain):
            seen = replace(seen, domain="")
        partitioned = seen.partitioned if keys.partitioned is None else keys.partitioned
        same_site = keys.same_site or seen.same_site or (NONE if partitioned else None)
        return Attributes(
            domain=seen.domain if keys.domain is None else keys.domain,
            path=keys.path or seen.path,
            same_site=same_site,
            http_only=seen.http_only if keys.http_only is None else keys.http_only,
            partitioned=partitioned,
            secure=self.https or seen.secure or partitioned or same_site == NONE,
        )


def _is_within(host: str, domain: str) -> bool:
    """Whether a browser takes a cookie with this Domain from this host (RFC 6265 5.1.3)."""
    return host == domain or host.endswith(f".{domain}")


def attributes_in(set_cookie: bytes) -> Attributes:
    """The attributes of a Set-Cookie field value, as far as they may be followed.

    A cookie without SameSite is taken for what most browsers make of it. One without Path is set on
    the directory of some request, which says nothing of other requests.
    """
    given = parse_attributes(set_cookie)
    domain = _followed(given.get(b"domain", b"")).lstrip(".").lower()
    path = _followed(given.get(b"path", b""))
    return Attributes(
        domain=domain,
        path=path if path.startswith("/") else "/",
        same_site=SAME_SITES.get(given.get(b"samesite", b"").decode("latin-1").lower()),
        http_only=b"httponly" in given,
        partitioned=b"partitioned" in given,
        secure=b"secure" in given,
    )


def _followed(value: bytes) -> str:
    text = value.decode("latin-1")
    is_writable = text.isascii() and text.isprintable() and len(text) <= MAX_ATTRIBUTE
    return text if is_writable else ""


def parse_attributes(set_cookie: bytes) -> dict[bytes, bytes]:
    """The attributes by lower-case name; the last of a name counts (RFC 6265 5.3)."""
    return dict(every_attribute(set_cookie))


def every_attribute(set_cookie: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The attributes with their lower-case names, in order."""
    for item in set_cookie.split(b";")[1:]:
        name, _, value = item.partition(b"=")
        yield name.strip(b" \t").lower(), value.strip(b" \t")
