"""Renewal of tokens, decided: what is asked for, and what an answer means for the session.

The one thing that ends a session is a provider that says so (RFC 6749 5.2, `invalid_grant`).
Whatever else goes wrong is trouble, and passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from sidecar.core.credential import is_b64token
from sidecar.core.headers import media_type
from sidecar.core.tokens import TokenSet, token_set

_REFUSALS: Final = frozenset((400, 401, 403))
"""Statuses by which a refresh endpoint of one's own refuses a token; 404 and 5xx are trouble."""

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


@dataclass(frozen=True, slots=True)
class Renewal:
    """The outcome of one exchange; `why` is fit for a log and holds no token."""

    outcome: Outcome
    tokens: TokenSet | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class AnswerPaths:
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

    Only `invalid_grant` ends the session: other errors are about the client or its request, which
    no user can have spoiled. An answer without a refresh token keeps the old one (RFC 6749 6), one
    with a token of another type than bearer is of no use here (RFC 6749 7.1).
    """
    status, document = answer.status, _json_object(answer)
    if status == 200 and document is not None:
        if str(document.get("token_type", "bearer")).lower() != "bearer":
            return Renewal(Outcome.TROUBLE, why="the answer's token is no bearer token")
        return _renewed(document, AnswerPaths(), old, now)
    error = document.get("error") if document is not None else None
    if 400 <= status < 500 and error == "invalid_grant":
        return Renewal(Outcome.REFUSED, why="invalid_grant")
    known = error if isinstance(error, str) and error.isidentifier() else "no OAuth 2 error"
    return Renewal(Outcome.TROUBLE, why=f"status {status}, {known}")


def read_http(answer: TokenAnswer, paths: AnswerPaths, old: TokenSet, now: float) -> Renewal:
    """What a refresh endpoint of one's own means: 400, 401 and 403 refuse, unless in HTML.

    A page comes from something in between, such as a firewall, and says nothing of the token.
    """
    status, document = answer.status, _json_object(answer)
    if 200 <= status < 300 and document is not None:
        return _renewed(document, paths, old, now)
    if status in _REFUSALS and not _is_page(answer):
        return Renewal(Outcome.REFUSED, why=f"status {status}")
    return Renewal(Outcome.TROUBLE, why=f"status {status}")


def _is_page(answer: TokenAnswer) -> bool:
    return media_type(answer.content_type.encode("latin-1", "replace")) == b"text/html"


def _json_object(answer: TokenAnswer) -> dict[str, Any] | None:
    if _is_page(answer):
        return None
    try:
        document = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _renewed(document: Mapping[str, Any], paths: AnswerPaths, old: TokenSet, now: float) -> Renewal:
    access = _at(document, paths.access_token)
    if not isinstance(access, str) or not is_b64token(access):
        return Renewal(Outcome.TROUBLE, why="the answer holds no access token")
    refresh = _at(document, paths.refresh_token)
    if not isinstance(refresh, str) or not refresh:
        refresh = old.refresh_token
    elif not (refresh.isascii() and refresh.isprintable()):
        return Renewal(Outcome.TROUBLE, why="the answer's refresh token is none (RFC 6749 A.17)")
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
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e10 else None
