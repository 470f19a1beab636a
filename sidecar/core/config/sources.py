"""Where a credential is looked for: one model per kind of session cookie."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from sidecar.core.config.faults import BadValue
from sidecar.core.config.fields import (
    CookieName,
    CookiePath,
    Domain,
    EndpointUrl,
    Iterations,
    MemberPath,
    Passwords,
    Pem,
    SameSite,
    Secrets,
    Section,
    SourceName,
    secret_setting,
    setting,
)
from sidecar.core.cookies import LIBRARY_COOKIES, unprefixed

_ABOUT_COOKIE = "The session cookie's base name, without chunk suffix. Default: the library's own."
_ABOUT_CLAIM = (
    "The claim that holds the access token; dots go deeper, a list keeps a claim's own dots."
)
_ABOUT_EXPIRY = "The claim that says when the token expires, in Unix seconds (or ms if above 1e11)."
_ABOUT_REFRESH = "The claim that holds the refresh token; without it nothing is renewed."
_ABOUT_ATTRIBUTES = (
    "As the application sets it. Default: what its own Set-Cookie was seen to say, else the "
    "library's default."
)
_ABOUT_SECRETS = "The library's secret, as text or a list (rotation); every one opens."
_ABOUT_NAME = "What routes call this source in `sources`. Default: its cookie's base name."
_ACCESS_TOKEN = ("accessToken",)


class _Source(Section):
    """What every source has: its name, and the attributes of what is renewed or expired."""

    name: SourceName | None = setting(None, _ABOUT_NAME)
    domain: Domain | None = setting(None, f"The cookie's Domain. {_ABOUT_ATTRIBUTES}")
    path: CookiePath | None = setting(None, f"The cookie's Path. {_ABOUT_ATTRIBUTES}")
    same_site: SameSite | None = setting(
        None, f"The cookie's SameSite: lax, strict or none. {_ABOUT_ATTRIBUTES}"
    )
    http_only: bool | None = setting(None, f"Whether it is HttpOnly. {_ABOUT_ATTRIBUTES}")
    partitioned: bool | None = setting(None, f"Whether it is Partitioned. {_ABOUT_ATTRIBUTES}")


class _Sealed(_Source):
    """What every encrypted session has: the claims to read."""

    token: MemberPath = setting(_ACCESS_TOKEN, _ABOUT_CLAIM, written="accessToken")
    expires_at: MemberPath | None = setting(None, _ABOUT_EXPIRY)


class _Library(_Sealed):
    """A library's session: one or more secrets, and a cookie name with a default of its own."""

    secret: Secrets = Field(description=_ABOUT_SECRETS)
    cookie: CookieName | None = setting(None, _ABOUT_COOKIE)
    refresh_token: MemberPath | None = setting(None, _ABOUT_REFRESH)


class AuthjsSource(_Library):
    """Auth.js v5 (@auth/core)."""

    type: Literal["authjs"] = Field(description="Auth.js v5 (@auth/core).")


class NextauthSource(_Library):
    """next-auth v4."""

    type: Literal["nextauth"] = Field(description="next-auth v4.")


class Auth0Source(_Library):
    """nextjs-auth0 v4; its token is `tokenSet.accessToken`."""

    type: Literal["auth0"] = Field(description="nextjs-auth0 v4.")
    token: MemberPath = setting(
        ("tokenSet", "accessToken"), _ABOUT_CLAIM, written="tokenSet.accessToken"
    )


class BetterAuthSource(_Library):
    """better-auth's account_data cookie."""

    type: Literal["better-auth"] = Field(description="better-auth's account_data cookie.")


class IronSessionSource(_Sealed):
    """iron-session 8 and 9, h3 (Nuxt, TanStack Start); the application names the cookie."""

    type: Literal["iron-session"] = Field(
        description="iron-session 8 and 9; h3, and with it Nuxt and TanStack Start."
    )
    cookie: CookieName = Field(
        description="The session cookie's name, as the application chose it."
    )
    password: Passwords = Field(description="One password (id 1), or a mapping of id to password.")
    iterations: Iterations = setting(
        1, "How h3 2 and later derive keys from it: 8192. Each new session then costs 30 ms."
    )


class JwtSource(_Sealed):
    """A signed session that holds the token: HS* by a secret, others by public keys."""

    type: Literal["jwt"] = Field(
        description="A signed JWT (RFC 7519) that is not encrypted and holds the token."
    )
    cookie: CookieName = Field(
        description="The session cookie's name, as the application chose it."
    )
    secret: Secrets = setting((), "The secret of HS256, HS384 or HS512, as text or a list.")
    key: Pem | None = secret_setting(
        "The public key of RS*, PS*, ES* or EdDSA, in PEM; a certificate will do."
    )
    jwks: EndpointUrl | None = setting(None, "Where such keys are published (RFC 7517).")

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> JwtSource:
        if sum((bool(self.secret), self.key is not None, self.jwks is not None)) != 1:
            raise BadValue(
                "must have one of secret, key and jwks", "add secret: ${JWT_SECRET}, for example"
            )
        return self


class CookieSource(_Source):
    """A cookie whose value is the token itself."""

    type: Literal["cookie"] = Field(description="A cookie whose value is the token itself.")
    cookie: CookieName = Field(description="The cookie's name.")
    refresh_cookie: CookieName | None = setting(None, "The cookie that is the refresh token.")


SourceSection: TypeAlias = Annotated[
    AuthjsSource
    | NextauthSource
    | Auth0Source
    | BetterAuthSource
    | IronSessionSource
    | JwtSource
    | CookieSource,
    Field(discriminator="type"),
]


def source_name(type_: object, name: object = None, cookie: object = None) -> str | None:
    """What a source is called: its own name, else its cookie's base name; None if it has none.

    Takes the plain values of a configuration, be they right or wrong.
    """
    if isinstance(name, str):
        return name
    cookie = cookie if isinstance(cookie, str) else LIBRARY_COOKIES.get(str(type_))
    return unprefixed((cookie,))[0] if cookie is not None else None
