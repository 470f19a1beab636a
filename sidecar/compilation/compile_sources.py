"""Where credentials come from, compiled: the sources in their order, and the secrets."""

from __future__ import annotations

from collections.abc import Sequence

from joserfc.jwk import KeySet

from sidecar.compilation.compile_login import claims_of_routes, compile_login
from sidecar.core.access import ClaimPath, needed_for
from sidecar.core.attributes import CookieKeys
from sidecar.core.config import Config
from sidecar.core.config.sources import (
    Auth0Source,
    AuthjsSource,
    BetterAuthSource,
    CookieSource,
    IronSessionSource,
    JwtSource,
    NextauthSource,
    SourceSection,
    source_name,
)
from sidecar.core.credential import Source
from sidecar.core.formats import FORMATS
from sidecar.core.formats.iron import iron_source
from sidecar.core.formats.raw import raw_source
from sidecar.core.formats.sealed import SealedSource
from sidecar.core.formats.signed_jwt import HeldKeys, KeyRing, RemoteKeys, jwt_source
from sidecar.core.jws import InvalidToken, key_of_pem
from sidecar.core.keys import derive_key
from sidecar.core.record import replace
from sidecar.core.tickets import ClaimStamp
from sidecar.core.view import SourceSet
from sidecar.policy import LoginPolicy
from sidecar.tls import UnusableFile


def compile_sources(config: Config) -> tuple[Source, ...]:
    """The credential sources in their order, that of `oidc` in front, keys derived.

    Login sessions open if a secret is configured, since no other one is known here.
    """
    secrets = signing_secrets(config, bytes(32))
    return sources_of(config, compile_login(config, secrets), secrets)


def sources_of(
    config: Config, login: LoginPolicy | None, secrets: Sequence[bytes]
) -> tuple[Source, ...]:
    """The sources in their order, that of the `login` in front. `secrets` stamp claims."""
    stamp = ClaimStamp(secrets)
    shows = needed_for(claims_of_routes(config))
    written = tuple(
        _showing(_compile_source(source, stamp), shows) for source in config.session.sources
    )
    return written if login is None else (login.source, *written)


def _showing(source: Source, shows: tuple[ClaimPath, ...]) -> Source:
    """The source with the claims that routes ask for."""
    return replace(source, shows=shows) if isinstance(source, SealedSource) else source


def _compile_source(source: SourceSection, stamp: ClaimStamp) -> Source:
    keys = cookie_keys(source)
    match source:
        case CookieSource():
            return raw_source(cookie=source.cookie, refresh_cookie=source.refresh_cookie, keys=keys)
        case IronSessionSource():
            return iron_source(
                passwords={key: one.get_secret_value() for key, one in source.password.items()},
                cookie=source.cookie,
                token=source.token,
                expires_at=source.expires_at,
                keys=keys,
                iterations=source.iterations,
            )
        case JwtSource():
            return jwt_source(
                cookie=source.cookie,
                secrets=_secrets_of(source),
                ring=_key_ring(source),
                token=source.token,
                expires_at=source.expires_at,
                keys=keys,
            )
        case AuthjsSource() | NextauthSource() | Auth0Source() | BetterAuthSource():
            return FORMATS[source.type](
                secrets=_secrets_of(source),
                cookie=source.cookie,
                token=source.token,
                expires_at=source.expires_at,
                refresh_token=source.refresh_token,
                keys=keys,
                stamp=stamp,
            )


def cookie_keys(source: SourceSection) -> CookieKeys:
    """What the configuration says of the cookies that are set or expired for a source."""
    return CookieKeys(
        source.domain, source.path, source.same_site, source.http_only, source.partitioned
    )


def _key_ring(source: JwtSource) -> KeyRing | None:
    """The public keys of a source that has no secret. Raises `UnusableFile` for an unfit key."""
    if source.jwks is not None:
        return RemoteKeys(source.jwks)
    if source.key is None:
        return None
    try:
        return HeldKeys(KeySet([key_of_pem(source.key)]))
    except InvalidToken as error:
        raise UnusableFile(
            "session.sources", f"type: jwt, cookie: {source.cookie}", str(error)
        ) from None


def _secrets_of(source: SourceSection) -> tuple[str, ...]:
    """What its sessions are sealed with; the first one seals."""
    match source:
        case CookieSource():
            return ()
        case IronSessionSource():
            return tuple(one.get_secret_value() for one in source.password.values())
        case JwtSource() | AuthjsSource() | NextauthSource() | Auth0Source() | BetterAuthSource():
            return tuple(one.get_secret_value() for one in source.secret)


def signing_secrets(config: Config, entropy: bytes) -> tuple[bytes, ...]:
    """The configured secrets, else one derived from a source's, else this process's own."""
    if config.secret:
        return tuple(secret.get_secret_value().encode() for secret in config.secret)
    for source in config.session.sources:
        secrets = _secrets_of(source)
        if secrets:
            return tuple(derive_key(one.encode(), "derived secret") for one in secrets)
    return (entropy,)


def source_names(config: Config) -> tuple[str, ...]:
    """What the sources are called, that of `oidc` in front."""
    written = [source_name(one.type, one.name, one.cookie) for one in config.session.sources]
    login = [] if config.oidc is None else [source_name("oidc", cookie=config.oidc.cookie)]
    return tuple(name or "" for name in (*login, *written))


def source_set(config: Config, names: Sequence[str] | None) -> SourceSet | None:
    """The places of the named sources; several sources may share a name."""
    if names is None:
        return None
    return frozenset(at for at, name in enumerate(source_names(config)) if name in names)
