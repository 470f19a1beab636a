"""Refresh of tokens, the sidecar's own login, and the store that replicas share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field

from sidecar.core.config.allow import ABOUT_ALLOW, AllowRule
from sidecar.core.config.fields import (
    CookieName,
    Duration,
    EndpointUrl,
    FilePath,
    Grace,
    MemberPath,
    PathText,
    PrivatePem,
    Secret,
    Section,
    StoreAddress,
    Token,
    freeze,
    freeze_json,
    parsed,
    parsed_store,
    secret_setting,
    setting,
    texts,
)
from sidecar.core.config.units import parse_duration, parse_grace

ClientAuth: TypeAlias = Literal["auto", "basic", "post", "none", "private_key_jwt", "tls"]

RESERVED_PARAMETERS: Final = frozenset(
    ("response_type", "response_mode", "client_id", "redirect_uri", "scope", "state", "nonce")
) | {"code_challenge", "code_challenge_method", "request", "request_uri"}
"""Parameters of an authorization request that the sidecar writes by itself."""

LOGIN_PARAM: Final = "next"
"""The parameter of the login's path that says where to go then."""

ENDPOINTS: Final = ("login", "callback", "session", "logout", "backchannel-logout")
FRONTCHANNEL: Final = "frontchannel-logout"
"""What the sidecar answers by itself below `oidc.path`."""

_ABOUT_AUTH = (
    "How the client proves itself: basic, post, private_key_jwt (with key), tls (with cert and "
    "key), or none for a public one. auto: what the provider's metadata announce, basic if they do "
    "not say."
)
_ABOUT_KEY = "The client's private key in PEM, RSA or EC, for private_key_jwt or tls."
_ABOUT_CERT = "PEM file of the client's certificate chain, for tls."
_ABOUT_ENDPOINT = "Stands above what the metadata say."
_ABOUT_SECRET = "The client's secret."  # noqa: S105 - a description


class _Client(Section):
    """How the sidecar proves to the provider which client it is."""

    client_secret: Secret | None = secret_setting(_ABOUT_SECRET)
    auth: ClientAuth = setting("auto", _ABOUT_AUTH)
    key: PrivatePem | None = secret_setting(_ABOUT_KEY)
    cert: FilePath | None = setting(None, _ABOUT_CERT)


class RefreshRequest(Section):
    """The request to a refresh endpoint of one's own."""

    model_config = ConfigDict(validate_by_name=True)

    method: Literal["POST", "PUT", "PATCH", "GET"] = setting("POST", "The method.")
    url: EndpointUrl = Field(description="The endpoint's URL.")
    headers: Annotated[Mapping[Token, str], AfterValidator(freeze)] = texts("More header fields.")
    body: Annotated[Any, AfterValidator(freeze_json)] = Field(
        default=None,
        alias="json",
        description="The JSON body; {refresh_token} and {access_token} in its texts are replaced.",
    )


class RefreshResponse(Section):
    """Where the answer of a refresh endpoint of one's own has the new tokens."""

    access_token: MemberPath = setting(("access_token",), "The token.", written="access_token")
    refresh_token: MemberPath | None = setting(
        ("refresh_token",),
        "The next refresh token; where there is none the old one stays.",
        written="refresh_token",
    )
    expires_in: MemberPath | None = setting(
        ("expires_in",), "How many seconds the token is good for.", written="expires_in"
    )


class Refresh(_Client):
    """How tokens are renewed before they expire, and after a 401."""

    type: Literal["oauth2", "http"] = setting(
        "oauth2", "oauth2: a token endpoint (RFC 6749 6); http: any JSON endpoint."
    )
    issuer: EndpointUrl | None = setting(
        None, "The provider, whose metadata name its endpoints. Default: that of oidc."
    )
    token_endpoint: EndpointUrl | None = setting(None, "The token endpoint, instead of issuer.")
    revocation_endpoint: EndpointUrl | None = setting(
        None, "The revocation endpoint (RFC 7009), where issuer does not name it."
    )
    client_id: Annotated[str, Field(min_length=1)] | None = setting(
        None, "The client's id. Default: that of oidc."
    )
    scope: str | None = setting(None, "The scope to ask for; left out by default.")
    leeway: Duration = parsed(
        parse_duration,
        "30s",
        "How long before its expiry a token is renewed; at most half of its lifetime.",
    )
    grace: Grace = parsed(
        parse_grace,
        "30s",
        "How long the old refresh token still leads to its successor once that has been used; at "
        "most a day.",
    )
    request: RefreshRequest | None = setting(None, "http: the request.")
    response: RefreshResponse = setting(
        RefreshResponse(), "http: where the answer has the tokens.", written={}
    )


class Oidc(_Client):
    """The sidecar's own login, by OpenID Connect."""

    issuer: EndpointUrl = Field(description="The provider's issuer URL.")
    client_id: str = Field(min_length=1, description="The client's id.")
    metadata_url: EndpointUrl | None = setting(
        None, "Where the metadata are, if not below the issuer, or not for the sidecar."
    )
    authorization_endpoint: EndpointUrl | None = setting(None, _ABOUT_ENDPOINT)
    token_endpoint: EndpointUrl | None = setting(None, _ABOUT_ENDPOINT)
    jwks_uri: EndpointUrl | None = setting(None, _ABOUT_ENDPOINT)
    userinfo_endpoint: EndpointUrl | None = setting(None, _ABOUT_ENDPOINT)
    revocation_endpoint: EndpointUrl | None = setting(None, _ABOUT_ENDPOINT)
    end_session_endpoint: EndpointUrl | None = setting(None, _ABOUT_ENDPOINT)
    scopes: tuple[str, ...] = setting(
        ("openid", "profile", "email"),
        "Scopes to ask for. offline_access asks some providers for a refresh token.",
        written=["openid", "profile", "email"],
    )
    parameters: Annotated[Mapping[str, str | None], AfterValidator(freeze)] = texts(
        "More parameters of the authorization request, such as audience; null: it is not sent."
    )
    clock_tolerance: Duration = parsed(
        parse_duration, "60s", "How far the provider's clock may differ."
    )
    attempt: Duration = parsed(
        parse_duration, "60m", "How long a login page of the provider may be left open."
    )
    userinfo: Literal["auto", "never"] = setting(
        "auto", "auto: UserInfo is asked where the id_token lacks name or email."
    )
    allow: tuple[AllowRule, ...] = setting((), f"Who may log in. {ABOUT_ALLOW}")
    path: PathText = setting("/auth", "Where login, callback, session and logout are.")
    cookie: CookieName = setting("sidecar", "The session cookie's base name.")
    keep: Literal["cookie", "store"] | None = setting(
        None, "Where sessions are kept. Default: cookie where the store is memory:, else store."
    )
    idle: Duration = parsed(parse_duration, "24h", "A session ends when it is not used that long.")
    absolute: Duration = parsed(parse_duration, "30d", "A session ends that long after its login.")
    frontchannel: bool = setting(
        False, "Whether the provider may end sessions through the browser (front-channel logout)."
    )

    @property
    def base(self) -> str:
        """What the paths of the endpoints begin with."""
        return self.path.rstrip("/")

    @property
    def login(self) -> str:
        """The path where a login begins."""
        return f"{self.base}/login"

    def is_login(self, path: str | None) -> bool:
        """Whether a login begins at a path of this site; a slash behind it does not count."""
        return path is not None and path.rstrip("/") == self.login


class StoreSection(Section):
    """What workers and replicas share: dead sessions, renewals, and login sessions."""

    url: StoreAddress = parsed_store(
        "memory:",
        "memory: | sqlite:///path | redis://host | rediss://host | redis+sentinel://h:p,h:p/name "
        "| redis+cluster://h:p,h:p. Default: memory:, and with several workers a private SQLite "
        "file.",
    )
    ready: bool = setting(
        True, "Whether readiness depends on a store that is shared; memory: never counts."
    )


class OutboundSection(Section):
    """How the provider, refresh endpoints and hooks are reached."""

    proxy: EndpointUrl | None = setting(
        None,
        "The HTTP proxy. Default: HTTPS_PROXY and HTTP_PROXY, but not for the hosts of NO_PROXY.",
    )
    ca: FilePath | None = setting(
        None, "PEM file of the authorities to trust instead of the system's."
    )


class Hook(Section):
    """A request that tells another system that a session has ended."""

    url: EndpointUrl = Field(description="The URL.")
    method: Literal["POST", "PUT", "DELETE", "GET"] = setting("POST", "The method.")
    headers: Annotated[Mapping[Token, str], AfterValidator(freeze)] = texts("More header fields.")
    token: bool = setting(False, "Whether it carries the session's access token as its bearer.")
