"""The way back: which authorization responses are believed (RFC 6749 4.1.2, RFC 9207, RFC 9700)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from sidecar.core.discovery import Metadata
from sidecar.core.errors import loggable
from sidecar.core.oidc.attempt import LoginAttempt
from sidecar.core.oidc.relying_party import LoginFailed

_MOST_PARAMETERS: Final = 64  # of a response
_LONGEST_CODE: Final = 4096  # characters
_LONGEST_ERROR: Final = 64  # characters of an error code that is shown
_UNKNOWN: Final = "unknown_error"  # instead of an error code that is none
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


def answer_parameters(query: str) -> dict[str, str]:
    """The parameters of an authorization response, or of a logout request.

    None may be there twice (RFC 6749 3.1); then, and where there are too many, none counts.
    """
    if query.count("&") >= _MOST_PARAMETERS:
        return {}
    pairs = parse_qsl(query.lstrip("?"), keep_blank_values=True, errors="surrogateescape")
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


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
    if not code or len(code) > _LONGEST_CODE or not (code.isascii() and code.isprintable()):
        raise LoginFailed("bad_answer", "the answer holds no code")
    return code


def _refusal(parameters: Mapping[str, str]) -> LoginFailed:
    """What an error response says that a login waits for (RFC 6749 4.1.2.1)."""
    code = _plain(parameters["error"])
    said = loggable(parameters.get("error_description", ""))
    detail = f"the provider answered {code}{said and ': '}{said}"
    return LoginFailed(code, detail, _OPERATORS.get(code, 400), said)


def unexpected_answer(parameters: Mapping[str, str], why: str) -> LoginFailed:
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
