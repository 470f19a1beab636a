"""How tokens are renewed: what is missing for it, or contradicts it, in the plain data.

Each rule reads `refresh` beside `oidc`, whose provider and client it inherits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sidecar.core.config.faults import BadValue, Finding
from sidecar.core.config.path_faults import Data, Rule, section
from sidecar.core.config.values import check_signing_pem

_PROOFS: Final[Mapping[str, tuple[str, ...]]] = {
    "basic": ("client_secret",),
    "post": ("client_secret",),
    "private_key_jwt": ("key",),
    "tls": ("key", "cert"),
}
"""What a client proves itself by, for each value of `auth` that says it."""

_OF_OAUTH2: Final = (
    *("issuer", "token_endpoint", "revocation_endpoint", "client_id", "client_secret", "scope"),
    *("auth", "key", "cert"),
)


def _has_an_endpoint(data: Data) -> Iterator[Finding]:
    refresh = section(data, "refresh")
    if not _stands_alone(data):
        return
    if _asks_an_endpoint(data):
        if refresh.get("request") is None:
            remedy = 'add request: {url: …, json: {refreshToken: "{refresh_token}"}}'
            yield Finding(("refresh", "request"), "missing: type: http needs its endpoint", remedy)
        return
    if refresh.get("type") is None and refresh.get("request") is not None:
        remedy = "add type: http, or remove request"
        yield Finding(("refresh", "type"), "missing: request is for type: http", remedy)
        return
    if not refresh.get("issuer") and not refresh.get("token_endpoint"):
        remedy = "add issuer: https://idp.example.com, or token_endpoint"
        yield Finding(("refresh", "issuer"), "missing: it says who renews tokens", remedy)
    if not refresh.get("client_id"):
        remedy = "add the id under which the provider knows the application"
        yield Finding(("refresh", "client_id"), "missing", remedy)


def _has_keys_of_its_type(data: Data) -> Iterator[Finding]:
    """To a JSON endpoint goes what its request says, and nothing else."""
    for name in _OF_OAUTH2 if _asks_an_endpoint(data) else ():
        if section(data, "refresh").get(name) is not None:
            remedy = "remove it, or use type: oauth2"
            yield Finding(("refresh", name), "contradicts type: http", remedy)


def _proves_its_client(data: Data) -> Iterator[Finding]:
    """By what `auth` says; what `refresh` leaves out is that of `oidc`."""
    for name in ("oidc", "refresh"):
        written = section(data, name)
        if not written or written.get("type") == "http":
            continue
        given = [written] if name == "oidc" else [written, section(data, "oidc")]
        auth = next((one["auth"] for one in given if one.get("auth") not in (None, "auto")), "auto")
        wanted = _PROOFS.get(auth, ()) if isinstance(auth, str) else ()
        missing = [key for key in wanted if not any(one.get(key) for one in given)]
        if missing and written.get("auth") == auth:
            problem = f"auth: {auth} must have {' and '.join(wanted)}"
            yield Finding((name, "auth"), problem, f"add {' and '.join(missing)}")


def _signs_with_its_key(data: Data) -> Iterator[Finding]:
    """An assertion is signed on some curves only, but a certificate's key may be on any."""
    given = [(name, section(data, name)) for name in ("refresh", "oidc")]
    is_signed = any(one.get("auth") == "private_key_jwt" for _, one in given)
    held = next(((name, one["key"]) for name, one in given if one.get("key")), None)
    if is_signed and held is not None:
        try:
            check_signing_pem(str(held[1]))
        except BadValue as fault:
            yield Finding((held[0], "key"), fault.problem, fault.remedy)


def _renews_where_the_login_began(data: Data) -> Iterator[Finding]:
    """There is one provider: what renews is what the login is with."""
    oidc, refresh = section(data, "oidc"), section(data, "refresh")
    if not oidc or not refresh:
        return
    if refresh.get("type") == "http":
        remedy = "remove it: login sessions are renewed by their provider"
        yield Finding(("refresh", "type"), "contradicts oidc", remedy)
    for name in ("issuer", "client_id"):
        value = refresh.get(name)
        if value is not None and oidc.get(name) is not None and value != oidc[name]:
            yield Finding(("refresh", name), f"must be the same as oidc.{name}", "remove it")


RENEWAL_RULES: Final[tuple[Rule, ...]] = (
    _has_an_endpoint,
    _has_keys_of_its_type,
    _proves_its_client,
    _signs_with_its_key,
    _renews_where_the_login_began,
)


def _stands_alone(data: Data) -> bool:
    """Whether `refresh` is there, and no `oidc` that it could inherit from."""
    return isinstance(data.get("refresh"), dict) and data.get("oidc") is None


def _asks_an_endpoint(data: Data) -> bool:
    return _stands_alone(data) and section(data, "refresh").get("type") == "http"
