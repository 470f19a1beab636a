"""Renewal of tokens, decided: what is asked for, and what an answer means for the session.

The one thing that ends a session is a provider that refuses its token (RFC 6749 5.2,
`invalid_grant`, and what others say in its place). Whatever else goes wrong is trouble, and passes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from sidecar.core.credential import is_b64token
from sidecar.core.headers import media_type
from sidecar.core.json_text import decode_object
from sidecar.core.record import replace
from sidecar.core.token_set import TokenSet, token_set

_REFUSING_STATUSES: Final = frozenset((400, 401, 403, 404, 409, 410, 422))
"""Statuses by which a refresh endpoint of one's own refuses a token."""

_OF_THE_ENDPOINT: Final = frozenset((401, 410, 422))
"""Those that proxies and firewalls do not send on their own, so that HTML with them refuses, too.

Frameworks answer text as HTML by default.
"""

_REFUSALS: Final = frozenset(
    (
        "invalid_grant",  # RFC 6749 5.2
        "interaction_required",  # OpenID Connect Core 3.1.2.6, these four
        "login_required",
        "consent_required",
        "account_selection_required",
        "bad_refresh_token",  # words of single providers
        "invalid_refresh_token",
        "token_expired",
        "token_inactive",
        "token_revoked",
    )
)
"""Error codes that say: this token is no longer good, and the user has to log in."""

_CLIENT_FAULTS: Final = frozenset(
    ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")
)
"""Error codes that blame the configuration of this client: no user has spoiled that."""

_OVERLOADS: Final = frozenset(("server_error", "slow_down", "temporarily_unavailable"))
"""Error codes that say nothing of the request."""

_refuses_the_token: Final = re.compile(
    r"\brefresh[ _]token (?:is |was |has )?(?:already )?(?:been )?"
    r"(?:invalid|expired|claimed|revoked|unknown|not found)\b",
    re.IGNORECASE,
).search
"""A description of `invalid_request` that is about the refresh token itself, as Dex writes it."""

_LONGEST_DESCRIPTION: Final = 500  # characters that are looked at
_is_code: Final = re.compile(r"[a-z_]{1,40}").fullmatch  # so narrow that no token passes for one
_is_decimal: Final = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?").fullmatch
_PLACEHOLDERS: Final = ("refresh_token", "access_token")


class TokenAnswer(Protocol):
    """An answer of a token endpoint, as it came."""

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class Outcome(StrEnum):
    """What an answer of a token endpoint means."""

    RENEWED = "renewed"
    REFUSED = "refused"  # the session is over
    TROUBLE = "trouble"  # nothing is known; the session lives on


class Trouble(StrEnum):
    """What trouble says about the provider, besides that it has not renewed this token."""

    AWAY = "away"  # no answer, or 5xx: it may be down for all
    UNCLEAR = "unclear"  # nothing is known: nonsense, or something is missing here
    THERE = "there"  # it answers, and does not do what this one request asks
    DOUBT = "doubt"  # the same, by `invalid_request`: some refuse a token so (Dex)
    MISCONFIGURED = "misconfigured"  # the same: it does not accept this client


class Renewal(msgspec.Struct, frozen=True):
    """The outcome of one exchange; `why` is fit for a log and holds no token.

    `trouble` counts where the outcome is trouble.
    """

    outcome: Outcome
    tokens: TokenSet | None = None
    why: str = ""
    trouble: Trouble = Trouble.UNCLEAR


class AnswerPaths(msgspec.Struct, frozen=True):
    """Where a token answer has what (RFC 6749 5.1 by default)."""

    access_token: tuple[str, ...] = ("access_token",)
    refresh_token: tuple[str, ...] | None = ("refresh_token",)
    expires_in: tuple[str, ...] | None = ("expires_in",)


def refresh_form(tokens: TokenSet, scope: str | None) -> dict[str, str]:
    """The form of a refresh at an OAuth 2 token endpoint (RFC 6749 6), without the client."""
    assert tokens.refresh_token is not None
    form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
    return form if scope is None else {**form, "scope": scope}


def fill(template: Any, tokens: TokenSet) -> Any:
    """A JSON template with `{refresh_token}` and `{access_token}` replaced in its texts."""
    if isinstance(template, str):
        for name in _PLACEHOLDERS:
            template = template.replace(f"{{{name}}}", getattr(tokens, name) or "")
        return template
    if isinstance(template, Mapping):
        return {key: fill(value, tokens) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [fill(value, tokens) for value in template]
    return template


def read_oauth2(answer: TokenAnswer, old: TokenSet, now: float) -> Renewal:
    """What a token endpoint's answer to a refresh means (RFC 6749 5.1, 5.2).

    An error code decides, in any status of 4xx or 2xx, as some providers send it. An answer
    without a refresh token keeps the old one (RFC 6749 6), one with a token of another type than
    bearer is of no use here (RFC 6749 7.1).
    """
    status, document = answer.status, _json_object(answer)
    error = _error(document)
    holds_tokens = is_success(status) and (error is None or "access_token" in (document or ()))
    if document is not None and holds_tokens:
        if str(document.get("token_type") or "bearer").lower() != "bearer":
            return _trouble("expected a bearer token, got one of another type")
        return _renewed(document, AnswerPaths(), old, now)
    if error is not None and _says_why(status):
        if error == "invalid_request" and _refuses_the_token(_description(document)):
            return Renewal(Outcome.REFUSED, why=f"status {status}, {error} about the refresh token")
        return _told(status, error)
    return _untold(answer, document)


def read_http(answer: TokenAnswer, paths: AnswerPaths, old: TokenSet, now: float) -> Renewal:
    """What a refresh endpoint of one's own means: some statuses refuse.

    A page with 400, 403, 404 or 409 may come from something in between, such as a firewall, and
    says nothing of the token. An OAuth 2 error code goes before the status.
    """
    status, document = answer.status, _json_object(answer)
    error = _error(document)
    is_told = error in _REFUSALS or error in _CLIENT_FAULTS
    if error is not None and is_told and _says_why(status):
        return _told(status, error)
    if is_success(status) and document is not None:
        return _renewed(document, paths, old, now)
    may_be_others = _is_page(answer) and status not in _OF_THE_ENDPOINT
    if status in _REFUSING_STATUSES and not may_be_others:
        return Renewal(Outcome.REFUSED, why=f"status {status}")
    return _untold(answer, document)


def is_success(status: int) -> bool:
    """Whether a response may hold tokens: frameworks answer a POST by 201 (RFC 6749 5.1: 200)."""
    return 200 <= status < 300


def _says_why(status: int) -> bool:
    """Whether an error code in a response is about the request: some send it as a success."""
    return is_success(status) or 400 <= status < 500


def _told(status: int, error: str) -> Renewal:
    """What an error code means."""
    if error in _REFUSALS:
        return Renewal(Outcome.REFUSED, why=f"status {status}, {error}")
    trouble = Trouble.THERE
    if error in _CLIENT_FAULTS:
        trouble = Trouble.MISCONFIGURED
    elif error in _OVERLOADS or status == 429:
        trouble = Trouble.UNCLEAR
    elif error == "invalid_request":
        trouble = Trouble.DOUBT
    return _trouble(f"expected tokens, got status {status}, {error}", trouble)


def _untold(answer: TokenAnswer, document: Mapping[str, Any] | None) -> Renewal:
    """What an answer means that holds neither tokens nor an error code."""
    got = "JSON without an error code"
    if document is None:
        got = "a page" if _is_page(answer) else "invalid JSON"
    why = f"expected tokens, got status {answer.status}, {got}"
    return _trouble(why, Trouble.AWAY if answer.status >= 500 else Trouble.UNCLEAR)


def _trouble(why: str, trouble: Trouble = Trouble.UNCLEAR) -> Renewal:
    return Renewal(Outcome.TROUBLE, why=why, trouble=trouble)


def _error(document: Mapping[str, Any] | None) -> str | None:
    """The OAuth 2 error code; one that is too odd for a log is named so."""
    error = document.get("error") if document is not None else None
    if not isinstance(error, str):
        return None
    return error if _is_code(error) else "an unknown error"


def _description(document: Mapping[str, Any] | None) -> str:
    """The `error_description` (RFC 6749 5.2), which is never logged: it may repeat the token."""
    said = document.get("error_description") if document is not None else None
    return said[:_LONGEST_DESCRIPTION] if isinstance(said, str) else ""


def _is_page(answer: TokenAnswer) -> bool:
    return media_type(answer.content_type.encode("latin-1", "replace")) == b"text/html"


def _json_object(answer: TokenAnswer) -> dict[str, Any] | None:
    if _is_page(answer):
        return None
    try:
        return decode_object(answer.body)
    except (ValueError, RecursionError):
        return None


def _renewed(document: Mapping[str, Any], paths: AnswerPaths, old: TokenSet, now: float) -> Renewal:
    access = _at(document, paths.access_token)
    if not isinstance(access, str) or not is_b64token(access):
        return _trouble("expected tokens, got an answer without an access token")
    refresh = _at(document, paths.refresh_token)
    if not isinstance(refresh, str) or not refresh:
        refresh = old.refresh_token
    elif not (refresh.isascii() and refresh.isprintable()):
        return _trouble("expected tokens, got an invalid refresh token (RFC 6749 A.17)")
    seconds = _seconds(_at(document, paths.expires_in))
    tokens = token_set(access, refresh, None if seconds is None else now + seconds, now)
    id_token = document.get("id_token")
    tokens = replace(tokens, id_token=id_token if isinstance(id_token, str) else old.id_token)
    return Renewal(Outcome.RENEWED, tokens)


def _at(document: Mapping[str, Any], path: tuple[str, ...] | None) -> Any:
    value: Any = document
    for name in path or ():
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return None if path is None else value


def _seconds(value: object) -> float | None:
    """A lifetime; some servers send it as text."""
    if isinstance(value, str) and _is_decimal(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e10 else None
