"""What an identity provider publishes about itself (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sidecar.core.errors import SidecarError
from sidecar.core.json_text import decode_object

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
REQUIRED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
OPTIONAL: Final = ("revocation_endpoint", "end_session_endpoint", "userinfo_endpoint")
"""Endpoints that a login needs, and those that it can do without."""

_LONGEST_SHOWN: Final = 200  # characters of another issuer that a message repeats


class BadMetadata(SidecarError):
    """The metadata cannot be used. The text says why, for a log."""


class Metadata(msgspec.Struct, frozen=True):
    """The members that a client needs, under their registered names; None: not published.

    `odd` are the optional members that were published and cannot be used.
    """

    issuer: str = ""
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    jwks_uri: str | None = None
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    authorization_response_iss_parameter_supported: bool | None = None
    prompt_values_supported: tuple[str, ...] | None = None
    odd: tuple[str, ...] = ()

    @property
    def demands_iss(self) -> bool:
        """Whether an authorization response without `iss` is refused (RFC 9207 section 2.4)."""
        return self.authorization_response_iss_parameter_supported is True

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that sign id_tokens; RS256 where nothing is said (Core section 15.1)."""
        return self.id_token_signing_alg_values_supported or ("RS256",)


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where an issuer's metadata may be, in the order to ask (Discovery 4.1, RFC 8414 3.1)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    )


def parse_metadata(body: bytes, issuer: str) -> Metadata:
    """The metadata that the issuer's document holds. Raises `BadMetadata`.

    The document must name exactly this issuer (Discovery 4.3, RFC 8414 3.3), or whoever serves it
    could pass for another. Endpoints must be https, unless the issuer itself is not, or is on the
    loopback interface. An optional member that cannot be used counts as not published.
    """
    try:
        given = decode_object(body)
    except (ValueError, RecursionError):
        raise BadMetadata("the provider's metadata are not the JSON that they must be") from None
    named = given.get("issuer")
    if not isinstance(named, str):
        raise BadMetadata("the provider's metadata name no issuer")
    if named != issuer:
        shown = ascii(named[:_LONGEST_SHOWN])
        raise BadMetadata(f"the provider calls itself {shown}; write issuer exactly so")
    for name in REQUIRED:
        if given.get(name) is not None and not _is_endpoint(given[name], issuer):
            raise BadMetadata(f"the provider's {name} is no https URL")
    usable = {name: read(given[name], issuer) for name, read in _MEMBERS.items() if name in given}
    odd = tuple(name for name, value in usable.items() if value is None and given[name] is not None)
    return Metadata(issuer=issuer, **usable, odd=odd)


def _endpoint(value: object, issuer: str) -> str | None:
    return str(value) if _is_endpoint(value, issuer) else None


def _texts(value: object, _: str) -> tuple[str, ...] | None:
    """A list of texts; some write the only one without the list."""
    values = [value] if isinstance(value, str) else value
    is_list = isinstance(values, list) and all(isinstance(one, str) for one in values)
    return tuple(values) if is_list and isinstance(values, list) else None


def _flag(value: object, _: str) -> bool | None:
    return value if isinstance(value, bool) else None


_MEMBERS: Final[Mapping[str, Callable[[object, str], Any]]] = {
    **dict.fromkeys((*REQUIRED, *OPTIONAL), _endpoint),
    "id_token_signing_alg_values_supported": _texts,
    "token_endpoint_auth_methods_supported": _texts,
    "prompt_values_supported": _texts,
    "authorization_response_iss_parameter_supported": _flag,
}
"""How each member is read, None where it cannot be used."""


def _is_endpoint(url: object, issuer: str) -> bool:
    """Whether an URL may be asked: absolute, nothing but ASCII, no user and no fragment."""
    if not isinstance(url, str):
        return False
    if not (url.isascii() and url.isprintable()) or " " in url or "#" in url:
        return False
    try:
        parts, home = urlsplit(url), urlsplit(issuer)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc or parts.scheme not in {"http", "https"}:
        return False
    return parts.scheme == "https" or home.scheme == "http" or home.hostname in _LOOPBACK
