"""The sidecar's own login, compiled; and who is let in by its claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.core.access import EMAIL, AccessRule, ClaimPath, needed_for
from sidecar.core.config import Config
from sidecar.core.config.allow import AllowRule
from sidecar.core.formats.login_session import (
    Lifetimes,
    LoginCookieSource,
    LoginStoreSource,
    login_cookie_source,
    login_store_source,
)
from sidecar.core.login_loop import TraceCookie
from sidecar.core.oidc.attempt import AttemptCookies
from sidecar.core.oidc.relying_party import OidcClient
from sidecar.core.oidc.session_index import SessionIndex
from sidecar.core.onward import OnwardTickets
from sidecar.policy import LoginPolicy


def compile_login(config: Config, secrets: Sequence[bytes]) -> LoginPolicy | None:
    """The login of `oidc`, if there is one. Of `secrets` the first seals, all open."""
    oidc = config.oidc
    if oidc is None:
        return None
    lifetimes = Lifetimes(oidc.idle, oidc.absolute)
    keep = oidc.keep or ("store" if config.store.url.is_shared else "cookie")
    source: LoginCookieSource | LoginStoreSource
    if keep == "store":
        source = login_store_source(cookie=oidc.cookie, lifetimes=lifetimes)
    else:
        longest = config.limits.header // 2
        source = login_cookie_source(
            cookie=oidc.cookie, secrets=secrets, lifetimes=lifetimes, longest=longest
        )
    return LoginPolicy(
        base=oidc.base,
        client=OidcClient(
            oidc.issuer,
            oidc.client_id,
            oidc.scopes,
            oidc.parameters,
            oidc.clock_tolerance,
            needed_for((*(rule.claim for rule in oidc.allow), *claims_of_routes(config))),
            compile_rules(oidc.allow),
        ),
        source=source,
        attempts=AttemptCookies(oidc.cookie, secrets, oidc.attempt),
        onward=OnwardTickets(secrets),
        trace=TraceCookie(oidc.cookie, secrets),
        index=SessionIndex(oidc.issuer, secrets),
        asks_userinfo=oidc.userinfo == "auto",
    )


def compile_rules(written: Sequence[AllowRule]) -> tuple[AccessRule, ...]:
    """The rules of a key `allow`, in their order."""
    return tuple(
        AccessRule(one.claim, frozenset(one.any), frozenset(one.all), frozenset(one.domain))
        for one in written
    )


def claims_of_routes(config: Config) -> Iterator[ClaimPath]:
    """The claims that some route needs, and those that tell a user who is not let in."""
    for route in config.routes:
        yield from route.headers.set_.values()
        if route.allow:
            yield from (*(rule.claim for rule in route.allow), EMAIL, ("name",))
