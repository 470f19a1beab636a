"""A login by OpenID Connect, decided: what is asked for, and which answers are believed.

Authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9207, RFC 9700), and what
a provider says when a session has ended there (Back-Channel Logout 1.0, Front-Channel Logout 1.0).
Randomness and time are arguments.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, urlencode

import msgspec

from sidecar.core.access import (
    EMAIL,
    EMAIL_VERIFIED,
    SUBJECT,
    AccessRule,
    ClaimPath,
    lets_in,
    picked,
    why_not,
)
from sidecar.core.attributes import Scope
from sidecar.core.config.renewal import RESERVED_PARAMETERS
from sidecar.core.cookies import CookieJar, gone_line, set_line
from sidecar.core.discovery import Metadata
from sidecar.core.errors import NotAllowed, SidecarError, loggable
from sidecar.core.formats.login_session import Profile
from sidecar.core.formats.sealed import base_name, prefixed
from sidecar.core.jwe import A256GCM, Keyring, SealError, as_number
from sidecar.core.jws import InvalidToken, Verified
from sidecar.core.keys import derive_key
from sidecar.core.target import local_reference
from sidecar.core.tickets import encode
from sidecar.core.token_set import jwt_subject

TOLERANCE: Final = 60.0  # seconds that clocks may differ, by default
LOGOUT_TOKEN_SECONDS: Final = 300.0  # that a logout token without `exp` is good for, after `iat`
ATTEMPT_BYTES: Final = 4096  # of all cookies of logins under way in one browser
ENTROPY: Final = 32  # bytes of randomness that a login needs

ID_TOKEN: Final = frozenset(("jwt",))
LOGOUT_TOKEN: Final = frozenset(("logout+jwt", "jwt"))
"""Values of `typ`; a provider need not say that a logout token is one (Back-Channel 2.4)."""

_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_OFFLINE_ACCESS: Final = "offline_access"
_LONGEST_PARAMETER: Final = 4096  # characters of a code, or of a state
_LONGEST_PLACE: Final = 600  # characters of a place in a state, which stays below 1,000 then
_LONGEST_ERROR: Final = 64  # characters of an error code that is shown
_UNKNOWN: Final = "unknown_error"  # instead of an error code that is none
_LONGEST_NAME: Final = 255  # characters of a subject (Core 2), and of a session's name
_LONGEST_CLAIM: Final = 512  # characters of what is told of a user
_HALF_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


_OPERATORS: Final = {
    **dict.fromkeys(
        (
            *("invalid_client", "unauthorized_client", "invalid_request", "invalid_scope"),
            *("unsupported_response_type", "request_not_supported", "server_error"),
        ),
        502,
    ),
    "temporarily_unavailable": 503,
}
"""Errors of an authorization response (RFC 6749 4.1.2.1) that no user can help, and the status."""

_REGISTERED: Final = frozenset(
    (
        *_OPERATORS,
        "access_denied",
        # OpenID Connect Core 1.0, 3.1.2.6
        *("interaction_required", "login_required", "account_selection_required"),
        *("consent_required", "invalid_request_uri", "invalid_request_object"),
        *("request_uri_not_supported", "registration_not_supported"),
        # RFC 8707, RFC 9396, RFC 9449, RFC 9470
        *("invalid_target", "invalid_authorization_details", "invalid_dpop_proof"),
        *("use_dpop_nonce", "unmet_authentication_requirements"),
    )
)
"""Error codes that authorization responses have by these specifications."""


class LoginFailed(SidecarError):
    """A login did not succeed. `code` is for the user: an error code of the provider or one of
    `bad_answer`, `login_expired`, `login_misconfigured`; the text is for the log. `status` is that
    of the answer: 400, or 5xx where neither user nor browser can help it. `description` is what the
    provider says to the user, if the answer is one that was waited for. None holds a secret.
    """

    def __init__(self, code: str, detail: str, status: int = 400, description: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.description = description


class LoginRefused(LoginFailed):
    """The provider knows the user, and no rule lets the user in. `who` is for the user to see."""

    def __init__(self, detail: str, who: str) -> None:
        super().__init__(NotAllowed.code, detail, NotAllowed.status)
        self.who = who


@dataclass(frozen=True, slots=True)
class OidcClient:
    """What the sidecar is at the provider, and what it asks for.

    `parameters` are more of the authorization request; None: that one is not sent. `tolerance` is
    how many seconds the provider's clock may differ. `claims` are the paths of those that are
    needed of a user, `allow` the rules of which one must hold.
    """

    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    claims: tuple[ClaimPath, ...] = ()
    allow: tuple[AccessRule, ...] = ()

    @property
    def kept(self) -> tuple[ClaimPath, ...]:
        """The claims that are kept of a user: a session is also found by its verified email."""
        return tuple(dict.fromkeys((*self.claims, EMAIL, EMAIL_VERIFIED)))


# -- the way there --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A login under way in one browser: sealed into a cookie, since nothing else binds it there.

    `seed` is random, and what the login rests on is made of it, so that the cookie is small. `next`
    is the local path to go to, `redirect_uri` the one that the provider was told.
    """

    seed: str = field(repr=False)
    redirect_uri: str
    next: str
    started_at: float
    vain: int = 0
    """How many logins just before this one gave no session that lasted (`core.login_loop`)."""

    @property
    def state(self) -> str:
        """What the provider's answer must name first (`AttemptCookies.state`)."""
        return self._derived(b"state")

    @property
    def nonce(self) -> str:
        """What the id_token must name (Core 3.1.2.1)."""
        return self._derived(b"nonce")

    @property
    def verifier(self) -> str:
        """The code verifier (RFC 7636 4.1)."""
        return self._derived(b"code verifier")

    def _derived(self, label: bytes) -> str:
        return encode(hmac.digest(self.seed.encode(), label, "sha256"))

    def is_over(self, now: float, lifetime: float) -> bool:
        """Whether it began too long ago, or in a future that no clock explains."""
        return not -TOLERANCE <= now - self.started_at < lifetime


def begin(
    entropy: bytes, wanted: str | None, redirect_uri: str, now: float, vain: int = 0
) -> LoginAttempt:
    """A new attempt. `entropy` is `ENTROPY` random bytes; `wanted` the place to go to, any text.

    What is not a local path is not gone to: `/` stands for it.
    """
    assert len(entropy) == ENTROPY
    place = None if wanted is None else local_reference(wanted)
    return LoginAttempt(encode(entropy), redirect_uri, place or "/", now, vain)


def challenge(verifier: str) -> str:
    """The S256 code challenge (RFC 7636 4.2)."""
    return encode(hashlib.sha256(verifier.encode("ascii")).digest())


def authorization_url(
    metadata: Metadata,
    client: OidcClient,
    attempt: LoginAttempt,
    state: str,
    *,
    as_another: bool = False,
) -> str:
    """Where the browser goes to log in (Core 3.1.2.1). Raises `LoginFailed`.

    `state` is the parameter that comes back (`AttemptCookies.state`). Providers grant
    `offline_access` only with consent (Core 11), so that is asked for with it unless the
    configuration says otherwise of `prompt`. `as_another`: the user wants to log in as somebody
    else, so the provider must not take its own session for the answer.
    """
    endpoint = metadata.authorization_endpoint
    if endpoint is None:
        raise LoginFailed("bad_answer", "the provider's metadata name no authorization endpoint")
    default = {"prompt": "consent"} if _OFFLINE_ACCESS in client.scopes else {}
    more = {
        name: text
        for name, text in {**default, **client.parameters}.items()
        if text is not None and name not in RESERVED_PARAMETERS
    }
    if as_another:
        asked = () if "prompt" in client.parameters else default.values()
        more["prompt"] = " ".join((_switch_prompt(metadata), *asked))
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": attempt.redirect_uri,
        "scope": " ".join(client.scopes),
        "state": state,
        "nonce": attempt.nonce,
        "code_challenge": challenge(attempt.verifier),
        "code_challenge_method": "S256",
        **more,
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"


def _switch_prompt(metadata: Metadata) -> str:
    """The `prompt` by which a provider asks who the user is (Core 3.1.2.1).

    Each knows `login`, but for those that let users choose an account and have no logout.
    """
    known = metadata.prompt_values_supported
    if known is not None:
        return "select_account" if "select_account" in known else "login"
    return "select_account" if metadata.end_session_endpoint is None else "login"


def attempt_stem(cookie: str) -> str:
    """What the names of attempts' cookies begin with, but for the prefix."""
    return f"{base_name(cookie)}-login-"


class AttemptCookies:
    """The cookies that hold attempts, one for each, so that several tabs can log in at once.

    A cookie may be lost: of too many, or after `lifetime` seconds. So the state that the provider
    hands back holds the place to go to as well, sealed, as far as it is short.
    """

    __slots__ = ("_keyring", "_lifetime", "_names", "_places")

    def __init__(self, cookie: str, secrets: Sequence[bytes], lifetime: float) -> None:
        """`cookie` is the session cookie's base name; of `secrets` the first seals, all open."""
        keys = [derive_key(secret, "login attempt") for secret in secrets]
        self._keyring: Final = Keyring({A256GCM: keys}, {})
        places = [derive_key(secret, "login place") for secret in secrets]
        self._places: Final = Keyring({A256GCM: places}, {})
        self._lifetime: Final = lifetime
        self._names: Final = prefixed(attempt_stem(cookie))

    def state(self, attempt: LoginAttempt) -> str:
        """The `state` parameter of an attempt."""
        if attempt.next == "/" or len(attempt.next) > _LONGEST_PLACE:
            return attempt.state
        return f"{attempt.state}.{self._places.seal(attempt.next.encode())}"

    def place(self, state: str) -> str | None:
        """The place that a `state` parameter of an attempt holds, whichever browser's it was."""
        _, _, sealed = state.partition(".")
        if not sealed or len(state) > _LONGEST_PARAMETER:
            return None
        try:
            return local_reference(self._places.open(sealed).decode())
        except (SealError, ValueError):
            return None

    def lines(self, jar: CookieJar, attempt: LoginAttempt, scope: Scope, now: float) -> list[bytes]:
        """Set-Cookie values that add an attempt to those presented.

        What is over or unreadable is taken away, and the oldest of more than `ATTEMPT_BYTES`, lest
        they pile up until no server takes the request any more.
        """
        opened = {name: self._open(name, jar) for name in jar.names() if self._is_one(name)}
        alive = {
            name: one.started_at
            for name, one in opened.items()
            if one and not one.is_over(now, self._lifetime)
        }
        name = self._name(attempt.state, scope)
        sealed = self._keyring.seal(msgspec.json.encode(astuple(attempt)))
        kept, room = set(), ATTEMPT_BYTES - len(name) - len(sealed)
        for one in sorted(alive, key=alive.__getitem__, reverse=True):
            room -= len(one) + sum(map(len, jar.values(one)))
            if room < 0:
                break
            kept.add(one)
        gone = [gone_line(one, scope.own) for one in opened if one not in kept]
        return [*gone, set_line(name, sealed, scope.own, now + self._lifetime)]

    def is_any(self, jar: CookieJar) -> bool:
        """Whether any attempt is presented, readable or not."""
        return any(map(self._is_one, jar.names()))

    def find(self, jar: CookieJar, state: str, scope: Scope, now: float) -> LoginAttempt | None:
        """The attempt of this browser that an answer with this `state` belongs to."""
        attempt = self._open(self._name(state, scope), jar)
        if attempt is None or attempt.is_over(now, self._lifetime):
            return None
        given = _without_place(state).encode("utf-8", "surrogateescape")
        return attempt if hmac.compare_digest(attempt.state.encode(), given) else None

    def gone(self, jar: CookieJar, state: str, scope: Scope) -> list[bytes]:
        """Set-Cookie values that take the attempt away, where one is presented."""
        name = self._name(state, scope)
        return [gone_line(name, scope.own)] if jar.values(name) else []

    def _name(self, state: str, scope: Scope) -> str:
        """The cookie's name; on https one that no sibling domain can set."""
        own = _without_place(state).encode("utf-8", "surrogateescape")
        short = encode(hashlib.sha256(own).digest()[:6])
        return (self._names[0] if scope.https else self._names[-1]) + short

    def _is_one(self, name: str) -> bool:
        return name.startswith(self._names)

    def _open(self, name: str, jar: CookieJar) -> LoginAttempt | None:
        for value in jar.values(name)[:2]:
            try:
                parts = msgspec.json.decode(self._keyring.open(value), type=_Parts)
            except (SealError, ValueError, RecursionError):
                continue
            return LoginAttempt(*parts)
        return None


_Parts: TypeAlias = tuple[str, str, str, float, int]
"""An attempt as it is sealed, without the names of its members."""


def _without_place(state: str) -> str:
    return state.partition(".")[0]


_LONGEST_URL: Final = 8000  # characters; beyond, servers refuse an address


def end_session_url(
    endpoint: str, client: OidcClient, *, id_token: str | None, back_to: str
) -> str:
    """Where the browser goes to end the session at the provider (RP-Initiated Logout 2).

    Without the id_token the provider may ask the user; one that is too long for an address is
    left out.
    """
    query = {"client_id": client.client_id, "post_logout_redirect_uri": back_to}
    mark = "&" if "?" in endpoint else "?"
    if id_token is not None:
        url = f"{endpoint}{mark}{urlencode({'id_token_hint': id_token, **query})}"
        if len(url) <= _LONGEST_URL:
            return url
    return f"{endpoint}{mark}{urlencode(query)}"


# -- the way back ---------------------------------------------------------------------------------


def answer_parameters(query: str) -> dict[str, str]:
    """The parameters of an authorization response, or of a logout request.

    None may be there twice (RFC 6749 3.1); then, and where there are too many, none counts.
    """
    pairs = parse_qsl(query.lstrip("?"), keep_blank_values=True, errors="surrogateescape")[:65]
    found = dict(pairs)
    return found if len(found) == len(pairs) < 65 else {}


def read_answer(parameters: Mapping[str, str], metadata: Metadata, issuer: str) -> str:
    """The code in an authorization response whose `state` was found right.

    Raises `LoginFailed` for an error, for an answer of another provider, or where one is not said
    though the provider says it always (RFC 9207 2.4).
    """
    iss = parameters.get("iss")
    if iss is None and metadata.demands_iss:
        raise LoginFailed("bad_answer", "the answer does not say which provider it is from")
    if iss is not None and iss != issuer:
        raise LoginFailed("bad_answer", "the answer is from another provider")
    if "error" in parameters:
        raise _refusal(parameters)
    code = parameters.get("code", "")
    if not code or len(code) > _LONGEST_PARAMETER or not (code.isascii() and code.isprintable()):
        raise LoginFailed("bad_answer", "the answer holds no code")
    return code


def _refusal(parameters: Mapping[str, str]) -> LoginFailed:
    """What an error response says that a login waits for (RFC 6749 4.1.2.1)."""
    code = _plain(parameters["error"])
    said = loggable(parameters.get("error_description", ""))
    detail = f"the provider answered {code}{said and ': '}{said}"
    return LoginFailed(code, detail, _OPERATORS.get(code, 400), said)


def unexpected(parameters: Mapping[str, str], why: str) -> LoginFailed:
    """A response that no login of this browser waits for; `why` is known here.

    Anybody can write one into a link. So nothing of it is repeated, to the user or in the log, but
    an error code that is registered: the provider may have been in trouble.
    """
    if "error" not in parameters:
        return LoginFailed("login_expired", why)
    error = parameters["error"]
    code = error if error in _REGISTERED else _UNKNOWN
    return LoginFailed(code, f"the response says {code}; {why}")


def _plain(error: str) -> str:
    """An error code as RFC 6749 4.1.2.1 has it, or `_UNKNOWN`."""
    plain = error.isascii() and error.replace("_", "").replace("-", "").replace(".", "").isalnum()
    return error if plain and len(error) <= _LONGEST_ERROR else _UNKNOWN


def code_form(attempt: LoginAttempt, code: str) -> dict[str, str]:
    """The form that redeems a code (RFC 6749 4.1.3, RFC 7636 4.5), without the client."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": attempt.redirect_uri,
        "code_verifier": attempt.verifier,
    }


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has logged in: the provider's names for user and session, and what may be shown."""

    subject: str = field(repr=False)
    sid: str | None = field(repr=False)
    profile: Profile = field(repr=False)

    def claim(self, path: ClaimPath) -> object:
        """What the provider says of the user."""
        return self.subject if path == SUBJECT else self.profile.claim(path)

    def lacks(self, paths: Sequence[ClaimPath]) -> bool:
        """Whether one of these claims is not known."""
        return any(self.claim(path) is None for path in paths)


def read_id_token(
    verified: Verified, client: OidcClient, *, nonce: str, access_token: str, now: float
) -> Identity:
    """Who an id_token with a right signature says it is (Core 3.1.3.7). Raises `InvalidToken`."""
    claims = verified.claims
    _check_origin(claims, client)
    _check_times(claims, now, client.tolerance)
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise InvalidToken("its nonce is not that of the login")
    half = claims.get("at_hash")
    if half is not None and half != _half_hash(access_token, verified.algorithm):
        raise InvalidToken("it belongs to another access token")
    subject = _name(claims, "sub")
    if subject is None:
        raise InvalidToken("it names no subject")
    profile = replace(_profile(claims), claims=picked(claims, client.kept))
    return Identity(subject, _name(claims, "sid"), profile)


def check_refreshed(verified: Verified, client: OidcClient, old: str) -> None:
    """An id_token that came with renewed tokens is of the same user (Core 12.2).

    `old` is the one that it takes the place of. Raises `InvalidToken`.
    """
    _check_origin(verified.claims, client)
    if _name(verified.claims, "sub") != jwt_subject(old):
        raise InvalidToken("it is of another user")


def may_be_of_same_user(unverified: str, old: str) -> bool:
    """Whether an id_token of a refresh whose signature proves nothing names no other user."""
    return jwt_subject(unverified) in (None, jwt_subject(old))


def with_userinfo(
    identity: Identity, said: Mapping[str, object], paths: Sequence[ClaimPath] = ()
) -> Identity:
    """What the UserInfo endpoint says besides (Core 5.3.2), also at these `paths`.

    Raises `InvalidToken`.
    """
    if said.get("sub") != identity.subject:
        raise InvalidToken("it is about another user")
    known, more = identity.profile, _profile(said)
    profile = replace(
        known,
        name=known.name or more.name,
        email=known.email or more.email,
        picture=known.picture or more.picture,
        more={key: value for key, value in picked(said, paths).items() if value is not None},
    )
    return replace(identity, profile=profile)


def check_allowed(identity: Identity, client: OidcClient) -> None:
    """Raises `LoginRefused` for a user whom no rule of `oidc.allow` lets in."""
    profile = identity.profile
    if lets_in(client.allow, identity.claim):
        return
    raise LoginRefused(why_not(client.allow, identity.claim), profile.email or profile.name or "")


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """Whose sessions have ended at the provider: of a user, or one session, or both.

    `jti` counts once, until `ends_at` (Unix seconds), after which the token is not believed.
    """

    subject: str | None = field(repr=False)
    sid: str | None = field(repr=False)
    jti: str
    ends_at: float


def read_logout_token(verified: Verified, client: OidcClient, *, now: float) -> LogoutToken:
    """What a logout token with a right signature says (Back-Channel 2.6). Raises `InvalidToken`."""
    claims = verified.claims
    _check_origin(claims, client)
    end = _check_times(claims, now, client.tolerance, lasts=LOGOUT_TOKEN_SECONDS)
    events = claims.get("events")
    if not isinstance(events, Mapping) or not isinstance(events.get(_LOGOUT_EVENT), Mapping):
        raise InvalidToken("it is no logout token")
    if "nonce" in claims:
        raise InvalidToken("it has a nonce, which no logout token has")
    subject, sid, jti = (_name(claims, name) for name in ("sub", "sid", "jti"))
    if subject is None and sid is None:
        raise InvalidToken("it names neither a subject nor a session")
    if jti is None:
        raise InvalidToken("it has no jti")
    return LogoutToken(subject, sid, jti, end + client.tolerance)


def read_front_channel(parameters: Mapping[str, str], client: OidcClient) -> str | None:
    """The session that a front-channel logout names; None where it does not prove to know one.

    Both parameters are demanded (Front-Channel 3): without, any page could end a session.
    """
    sid = parameters.get("sid")
    return sid if parameters.get("iss") == client.issuer and sid and _is_short(sid) else None


def _check_origin(claims: Mapping[str, object], client: OidcClient) -> None:
    """`iss`, `aud` and `azp` (Core 3.1.3.7 with errata 2, rules 2 to 5)."""
    if claims.get("iss") != client.issuer:
        raise InvalidToken("it is from another issuer")
    audience = claims.get("aud")
    names = audience if isinstance(audience, list) else [audience]
    if client.client_id not in names:
        raise InvalidToken("it is meant for another client")
    party = claims.get("azp")
    if party is not None and party != client.client_id:
        raise InvalidToken("it was issued to another client")


def _check_times(
    claims: Mapping[str, object], now: float, tolerance: float, *, lasts: float | None = None
) -> float:
    """`exp` and `iat` are there and right, and so is `nbf` if it is there (RFC 7519 4.1).

    A token without `exp` is good for `lasts` seconds after `iat`; None: it is not. Returns its end
    (Unix seconds). Raises `InvalidToken`.
    """
    end, began = as_number(claims.get("exp")), as_number(claims.get("iat"))
    if end is None and "exp" not in claims and began is not None and lasts is not None:
        end = began + lasts
    if end is None or began is None:
        raise InvalidToken("it does not say when it was issued and when it ends")
    if now >= end + tolerance:
        raise InvalidToken(f"it expired {now - end:.0f} s ago (oidc.clock_tolerance)")
    start = as_number(claims["nbf"]) if "nbf" in claims else began
    if start is None or max(began, start) > now + tolerance:
        ahead = max(began, start or began) - now
        raise InvalidToken(f"it is from the future, {ahead:.0f} s ahead (oidc.clock_tolerance)")
    return end


def _half_hash(token: str, algorithm: str) -> str:
    """`at_hash`: the left half of the hash that the signature uses (Core 3.1.3.6).

    For Ed25519 that is SHA-512 (RFC 8032 5.1).
    """
    digest = _HALF_HASHES.get(algorithm[-3:], hashlib.sha512)(token.encode("ascii")).digest()
    return encode(digest[: len(digest) // 2])


def _name(claims: Mapping[str, object], claim: str) -> str | None:
    """An identifier; None where there is none. Raises `InvalidToken` for anything else."""
    value = claims.get(claim)
    if value is None:
        return None
    if not isinstance(value, str) or not value or not _is_short(value):
        raise InvalidToken(f"its {claim} is not what it must be")
    return value


def _is_short(name: str) -> bool:
    return len(name) <= _LONGEST_NAME


def _profile(claims: Mapping[str, object]) -> Profile:
    """What may be shown of a user: short texts; a picture is an address and no data."""
    name, email, picture = (_text(claims.get(one)) for one in ("name", "email", "picture"))
    is_address = picture is not None and picture.startswith(("https://", "http://"))
    return Profile(name, email, picture if is_address else None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_CLAIM else None


# -- where sessions are found by the provider's names for them ------------------------------------


_EMAIL: Final = "email"


class SessionIndex:
    """Keys under which the sessions of a user, or of a provider's session, are written down.

    They are keyed hashes, so a reader of the store does not learn who is logged in.
    """

    __slots__ = ("_issuer", "_keys")

    def __init__(self, issuer: str, secrets: Sequence[bytes]) -> None:
        """Of `secrets` the first writes, all find."""
        self._issuer: Final = issuer
        self._keys: Final = tuple(derive_key(secret, "session index") for secret in secrets)

    def written(self, subject: str, sid: str | None, email: str | None = None) -> tuple[str, ...]:
        """The keys to write a session under."""
        names = [("sub", subject), ("sid", sid), (_EMAIL, email)]
        return tuple(self._of(self._keys[0], kind, name) for kind, name in names if name)

    def sought(self, subject: str | None, sid: str | None) -> tuple[str, ...]:
        """The keys to look under: those of the session where one is named, else the user's."""
        kind, name = ("sub", subject) if sid is None else ("sid", sid)
        return tuple(self._of(key, kind, name) for key in self._keys) if name else ()

    def sought_unnamed(self, subject: str | None, sid: str | None) -> tuple[str, ...]:
        """The keys under which those sessions of a user are found that have no `sid`.

        A provider that names both may not have said which session a login began
        (Back-Channel 2.7).
        """
        return self.sought(subject, None) if sid is not None else ()

    def sought_email(self, email: str) -> tuple[str, ...]:
        """The keys to look under for the sessions of everybody who has this email."""
        return tuple(self._of(key, _EMAIL, email) for key in self._keys)

    def replayed(self, jti: str) -> str:
        """The key under which a logout token is written down as used."""
        return self._of(self._keys[0], "jti", jti)

    def _of(self, key: bytes, kind: str, name: str) -> str:
        text = msgspec.json.encode([kind, self._issuer, name])
        return f"{kind}:{encode(hmac.digest(key, text, 'sha256')[:16])}"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One session under a key of the index, and when it ends at the latest (Unix seconds).

    `has_sid`: whether the provider has named it.
    """

    fingerprint: str
    ends_at: float
    has_sid: bool = True


MAX_INDEXED: Final = 200
"""Sessions of one user that are written down; of more the newest."""


def with_session(stored: bytes | None, entry: IndexEntry, now: float) -> bytes:
    """The value of a key of the index with one more session, and without those that have ended."""
    kept = [one for one in sessions_in(stored, now) if one.fingerprint != entry.fingerprint]
    return msgspec.json.encode([*kept, entry][-MAX_INDEXED:])


def sessions_in(stored: bytes | None, now: float) -> list[IndexEntry]:
    """The sessions that the value of a key names, as far as they may live.

    Raises `msgspec.MsgspecError` for what is no such value.
    """
    entries = msgspec.json.decode(stored, type=list[IndexEntry]) if stored else []
    return [one for one in entries if now < one.ends_at]
