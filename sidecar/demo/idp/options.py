"""What the provider is started with, and the switches that a rehearsal may turn while it runs.

The same names are keyword arguments, flags of the command and members of the control endpoint's
JSON. Lifetimes are whole seconds, since a JWT's times are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

CLIENT_ID: Final = "app"
CLIENT_SECRET: Final = "rehearsal-only"  # noqa: S105  # known to all, like every account here
EVERYBODY: Final = "*"
OPENID: Final = "openid"
OFFLINE_ACCESS: Final = "offline_access"

Endpoint = Literal[
    "discovery",
    "jwks",
    "authorization",
    "token",
    "userinfo",
    "revocation",
    "introspection",
    "end_session",
]
ENDPOINTS: Final[tuple[Endpoint, ...]] = get_args(Endpoint)


def _http_uri(value: str) -> str:
    """An absolute http or https URI without a fragment (RFC 6749 section 3.1.2), left as it is."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc or "#" in value:
        raise ValueError("must be an absolute http or https URI without a fragment")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without spaces")
    return value


Uri = Annotated[str, AfterValidator(_http_uri)]
Lifetime = Annotated[int, Field(ge=1, le=10**9)]
Count = Annotated[int, Field(ge=0)]
Wait = Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Switches(_Model):
    """What may be changed while the provider runs. Tokens keep the lifetime they were made with."""

    access_token_lifetime: Lifetime = Field(30, description="seconds that an access token lives")
    refresh_token_lifetime: Lifetime = Field(
        3600, description="seconds from the login on, however often it is refreshed"
    )
    id_token_lifetime: Lifetime = Field(300, description="seconds that an id_token is valid")
    code_lifetime: Lifetime = Field(60, description="seconds that an authorization code is good")
    session_lifetime: Lifetime = Field(
        28800, description="seconds that the single sign-on session of a browser lives"
    )
    opaque_access_tokens: bool = Field(
        False, description="access tokens that say nothing; else they are JWTs (RFC 9068)"
    )
    rotation: bool = Field(
        True, description="a refresh gives a new refresh token; else the old one stays good"
    )
    reuse_detection: bool = Field(
        True,
        description="a spent refresh token that comes again ends the whole grant (RFC 9700); "
        "else it is only refused",
    )
    id_token_on_refresh: bool = Field(True, description="a refresh gives an id_token as well")
    revocation_cascade: bool = Field(
        True, description="revoking a refresh token ends its access tokens as well"
    )
    key_overlap: Count = Field(
        300, description="seconds that a signing key stays in the key set after it was rotated"
    )
    burst: Count | Literal["all"] = Field(
        0,
        description="burst of 401s: this many access tokens, as they are presented, or `all` count "
        "as revoked, from now on for `burst_seconds`",
    )
    burst_seconds: Wait = Field(10, description="how long a burst lasts")
    refresh_delay: Wait = Field(
        0, description="seconds between carrying out a refresh and answering it"
    )
    invalid_grant: Count = Field(
        0, description="this many refreshes are refused with `invalid_grant`, which ends the grant"
    )
    lost_refreshes: Count = Field(
        0, description="this many refreshes are carried out, and their answers lost"
    )
    outage: Literal["none", "close", "error", "html", "unavailable"] = Field(
        "none",
        description="`close`: the connection ends without an answer; `error`: 500; `html`: 200 and "
        "a page; `unavailable`: 503 with Retry-After",
    )
    outage_of: tuple[Endpoint, ...] = Field(
        ENDPOINTS, description=f"what the outage is of: {', '.join(ENDPOINTS)}; by default all"
    )
    retry_after: Count = Field(1, description="seconds that the 503 names")
    sign_in_as: str | None = Field(
        None, description="a user who is signed in, and consents, without a page being shown"
    )


class RegisteredClient(_Model):
    """A relying party. URIs are compared as strings (RFC 9700 section 2.1)."""

    client_id: Annotated[str, Field(min_length=1)] = Field(
        CLIENT_ID, description="the client's name"
    )
    client_secret: str | None = Field(
        CLIENT_SECRET, repr=False, description="empty: a public client, which has none"
    )
    redirect_uris: tuple[Uri, ...] = Field((), description="where answers may go")
    post_logout_redirect_uris: tuple[Uri, ...] = Field(
        (), description="where a browser may go after its logout"
    )
    backchannel_logout_uri: Uri | None = Field(None, description="where logout tokens are sent")
    frontchannel_logout_uri: Uri | None = Field(None, description="a page that is framed at logout")
    offline_access: bool = Field(
        False, description="whether `offline_access` is granted without prompt=consent"
    )

    @property
    def is_public(self) -> bool:
        """Whether it cannot authenticate (RFC 6749 section 2.1)."""
        return not self.client_secret


class Options(Switches, RegisteredClient):
    """Everything that the provider can be started with: its one client, and the switches."""

    host: Literal["127.0.0.1", "localhost"] = Field(
        "127.0.0.1",
        description="the issuer's host. Cookies know no ports: `localhost` keeps them apart from "
        "those of an application at 127.0.0.1",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of the loopback interface; 0 picks a free one"
    )
    users: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("alice", "bob"), description="who can be signed in; there are no passwords"
    )
    scopes: tuple[str, ...] = Field(
        (OPENID, "profile", "email", OFFLINE_ACCESS), description="scopes that can be granted"
    )
    audience: str = Field("urn:rehearsal:api", description="`aud` of access tokens")
    signing_algorithm: Literal["RS256", "ES256"] = Field("RS256", description="RS256 or ES256")
    clients: tuple[RegisteredClient, ...] = Field((), description="further clients")

    @model_validator(mode="after")
    def _signs_in_a_user(self) -> Self:
        if self.sign_in_as is not None and self.sign_in_as not in self.users:
            raise ValueError("sign_in_as must be one of users")
        return self

    def with_switches(self, changes: Mapping[str, Any]) -> Options:
        """These options after a change of switches, all or none. Raises pydantic's errors."""
        Switches.model_validate(changes)
        return Options.model_validate({**dict(self), **changes})

    def switches(self) -> dict[str, Any]:
        """The switches as they stand."""
        return self.model_dump(mode="json", include=set(Switches.model_fields))

    def all_clients(self) -> tuple[RegisteredClient, ...]:
        """The client that these options describe, and the further ones."""
        own = {name: getattr(self, name) for name in RegisteredClient.model_fields}
        return (RegisteredClient.model_validate(own), *self.clients)


def faults(error: ValidationError) -> list[str]:
    """What is wrong, option by option, without the values given."""
    return [
        f"{'.'.join(map(str, fault['loc'])) or 'options'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
