"""The way to the provider: a login under way, and where the browser goes for it.

Authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9700). Randomness and time
are arguments.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeAlias
from urllib.parse import urlencode

import msgspec

from sidecar.core.attributes import Scope
from sidecar.core.config.renewal import RESERVED_PARAMETERS
from sidecar.core.cookies import CookieJar, gone_line, set_line
from sidecar.core.discovery import Metadata
from sidecar.core.formats.sealed import base_name, prefixed
from sidecar.core.jwe import A256GCM, Keyring, SealError
from sidecar.core.keys import derive_key
from sidecar.core.oidc.relying_party import TOLERANCE, LoginFailed, OidcClient
from sidecar.core.record import values_of
from sidecar.core.target import local_reference
from sidecar.core.tickets import encode

ATTEMPT_BYTES: Final = 4096  # of all cookies of logins under way in one browser
MOST_OPENED: Final = 24  # cookies of attempts that are opened, and then kept or taken away
ENTROPY: Final = 32  # bytes of randomness that a login needs
_LONGEST_STATE: Final = 4096  # characters
_OFFLINE_ACCESS: Final = "offline_access"
_LONGEST_PLACE: Final = 600  # characters of a place in a state, which stays below 1,000 then


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


def begin_attempt(
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
        if not sealed or len(state) > _LONGEST_STATE:
            return None
        try:
            return local_reference(self._places.open(sealed).decode())
        except (SealError, ValueError):
            return None

    def lines(self, jar: CookieJar, attempt: LoginAttempt, scope: Scope, now: float) -> list[bytes]:
        """Set-Cookie values that add an attempt to those presented.

        What is over or unreadable is taken away, and the oldest of more than `ATTEMPT_BYTES`: else
        no server would take the request in the end. Each login looks at `MOST_OPENED` of them.
        """
        presented = islice(filter(self._is_one, jar.names()), MOST_OPENED)
        opened = {name: self._open(name, jar) for name in presented}
        alive = {
            name: one.started_at
            for name, one in opened.items()
            if one and not one.is_over(now, self._lifetime)
        }
        name = self._name(attempt.state, scope)
        sealed = self._keyring.seal(msgspec.json.encode(tuple(values_of(attempt).values())))
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
