"""The authorization endpoint's decisions (RFC 6749 section 4.1, OpenID Connect Core section 3.1.2).

The code flow alone, PKCE with S256 for every client (RFC 7636), redirect URIs compared as strings,
and `iss` in every answer (RFC 9207).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Final, Literal, TypeAlias

from sidecar.demo.idp.demo_provider import DemoProvider
from sidecar.demo.idp.idp_errors import AuthorizationError, PageError, ReturnAddress
from sidecar.demo.idp.options import OFFLINE_ACCESS, RegisteredClient
from sidecar.demo.idp.parameters import with_parameters
from sidecar.demo.idp.records import AuthorizationRequest, Code, UserSession

Step: TypeAlias = Literal["login", "consent", "issue"]

PROMPTS: Final = frozenset({"none", "login", "consent"})
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # SHA-256 in base64url
_UNSUPPORTED: Final = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}


def read_request(provider: DemoProvider, parameters: Mapping[str, str]) -> AuthorizationRequest:
    """An authorization request that holds.

    Raises `PageError` where nothing can be sent back, because client or redirect URI are not
    registered, and `AuthorizationError` for every other fault.
    """
    client = provider.clients.get(parameters.get("client_id", ""))
    if client is None:
        raise PageError("The client is not registered here.")
    uri = parameters.get("redirect_uri")
    if uri is None or uri not in client.redirect_uris:
        raise PageError("The redirect URI is not registered for this client.")
    to = ReturnAddress(uri, parameters.get("state"))
    _check_flow(to, parameters)
    prompt = _prompt(to, parameters)
    return AuthorizationRequest(
        client_id=client.client_id,
        to=to,
        scope=_scope(provider, client, to, parameters, prompt),
        nonce=parameters.get("nonce"),
        challenge=_challenge(to, parameters),
        prompt=prompt,
        max_age=_max_age(to, parameters),
    )


def next_step(request: AuthorizationRequest, session: UserSession | None, now: float) -> Step:
    """What has to happen first. Raises `AuthorizationError` where prompt=none forbids it."""
    if session is None or _is_too_old(request, session, now):
        if "none" in request.prompt:
            raise AuthorizationError(request.to, "login_required", "nobody is signed in")
        return "login"
    if "login" in request.prompt:
        return "login"
    return "consent" if "consent" in request.prompt else "issue"


def issue_code(provider: DemoProvider, request: AuthorizationRequest, session: UserSession) -> str:
    """Makes a code for the user of the session. Returns the whole URI of the answer."""
    grant = provider.grant(session, request.client_id, request.scope, request.nonce)
    code = token_urlsafe(32)
    expires = provider.now() + provider.options.code_lifetime
    provider.state.codes[code] = Code(grant, request.to.uri, request.challenge, expires)
    answer = {"code": code, "state": request.to.state, "iss": provider.issuer}
    return with_parameters(request.to.uri, answer)


def error_uri(provider: DemoProvider, error: AuthorizationError) -> str:
    """The whole URI of an error answer."""
    answer = {
        "error": error.error,
        "error_description": error.description,
        "state": error.to.state,
        "iss": provider.issuer,
    }
    return with_parameters(error.to.uri, answer)


def _check_flow(to: ReturnAddress, parameters: Mapping[str, str]) -> None:
    for name, error in _UNSUPPORTED.items():
        if name in parameters:
            raise AuthorizationError(to, error, f"{name} is not supported")
    response_type = parameters.get("response_type")
    if response_type is None:
        raise AuthorizationError(to, "invalid_request", "response_type is missing")
    if response_type != "code":
        raise AuthorizationError(to, "unsupported_response_type", "only code is supported")
    if parameters.get("response_mode", "query") != "query":
        raise AuthorizationError(to, "invalid_request", "only the response mode query is supported")


def _challenge(to: ReturnAddress, parameters: Mapping[str, str]) -> str:
    challenge = parameters.get("code_challenge")
    if challenge is None:
        raise AuthorizationError(to, "invalid_request", "code_challenge is missing")
    if parameters.get("code_challenge_method") != "S256":
        raise AuthorizationError(to, "invalid_request", "code_challenge_method must be S256")
    if _CHALLENGE.fullmatch(challenge) is None:
        raise AuthorizationError(to, "invalid_request", "code_challenge is malformed")
    return challenge


def _prompt(to: ReturnAddress, parameters: Mapping[str, str]) -> frozenset[str]:
    prompt = frozenset(parameters.get("prompt", "").split())
    if not prompt <= PROMPTS:
        raise AuthorizationError(to, "invalid_request", "prompt is unknown")
    if "none" in prompt and len(prompt) > 1:
        raise AuthorizationError(to, "invalid_request", "prompt=none stands alone")
    return prompt


def _scope(
    provider: DemoProvider,
    client: RegisteredClient,
    to: ReturnAddress,
    parameters: Mapping[str, str],
    prompt: frozenset[str],
) -> tuple[str, ...]:
    """What is known of the scope asked for; offline access as Core section 11 grants it."""
    asked = dict.fromkeys(parameters.get("scope", "").split())
    offline = client.offline_access or "consent" in prompt
    scope = tuple(
        one
        for one in asked
        if one in provider.options.scopes and (offline or one != OFFLINE_ACCESS)
    )
    if not scope:
        raise AuthorizationError(to, "invalid_scope", "no scope is left that can be granted")
    return scope


def _max_age(to: ReturnAddress, parameters: Mapping[str, str]) -> int | None:
    text = parameters.get("max_age")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise AuthorizationError(to, "invalid_request", "max_age must be a number of seconds")
    return int(text)


def _is_too_old(request: AuthorizationRequest, session: UserSession, now: float) -> bool:
    return request.max_age is not None and now - session.auth_time >= request.max_age
