"""What clients ask for directly.

Tokens (RFC 6749), their revocation (RFC 7009) and introspection (RFC 7662).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_plus

from joserfc.util import urlsafe_b64encode

from sidecar.demo.idp.demo_provider import DemoProvider
from sidecar.demo.idp.idp_errors import OAuthError
from sidecar.demo.idp.options import OFFLINE_ACCESS, OPENID, RegisteredClient
from sidecar.demo.idp.records import AccessToken, Grant, RefreshToken

Form: TypeAlias = Mapping[str, str]
Answer: TypeAlias = dict[str, Any]

_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 section 4.1


# -- who asks -------------------------------------------------------------------------------------


def authenticate(provider: DemoProvider, authorization: str | None, form: Form) -> RegisteredClient:
    """The client that asks (RFC 6749 section 2.3): by Basic, by its form, or public.

    Raises `OAuthError`.
    """
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if authorization is not None:
        if secret is not None:
            raise OAuthError("invalid_request", "two ways of client authentication")
        basic_id, secret = _basic(authorization)
        if client_id not in (None, basic_id):
            raise OAuthError("invalid_request", "two client_ids")
        client_id = basic_id
    client = provider.clients.get(client_id or "")
    if client is None or not _is_right(client, secret):
        provider.stats.refused_clients += 1
        raise OAuthError("invalid_client", "the client cannot be authenticated", status=401)
    return client


def _basic(authorization: str) -> tuple[str, str]:
    """Client id and secret, form-encoded inside of base64 (RFC 6749 section 2.3.1)."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    client_id, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "the Authorization header cannot be read", status=401)
    return unquote_plus(client_id), unquote_plus(secret)


def _is_right(client: RegisteredClient, secret: str | None) -> bool:
    if client.client_secret is None or client.is_public:
        return not secret
    return secret is not None and compare_digest(secret.encode(), client.client_secret.encode())


# -- the token endpoint ---------------------------------------------------------------------------


def exchange(provider: DemoProvider, client: RegisteredClient, form: Form) -> Answer:
    """The token endpoint's answer to a client that is who it says. Raises `OAuthError`."""
    try:
        (grant_type,) = _required(form, "grant_type")
        if grant_type not in _GRANT_TYPES:
            raise OAuthError("unsupported_grant_type", f"supported: {', '.join(GRANT_TYPES)}")
        return _GRANT_TYPES[grant_type](provider, client, form)
    except OAuthError:
        provider.stats.refused_exchanges += 1
        raise


def _exchange_code(provider: DemoProvider, client: RegisteredClient, form: Form) -> Answer:
    """RFC 6749 section 4.1.3. A second use ends what the first one gave (section 4.1.2)."""
    value, redirect_uri, verifier = _required(form, "code", "redirect_uri", "code_verifier")
    if _VERIFIER.fullmatch(verifier) is None:
        raise OAuthError("invalid_request", "code_verifier is malformed")
    code = provider.state.codes.get(value)
    if code is None or code.grant.client_id != client.client_id:
        raise OAuthError("invalid_grant", "the code is unknown")
    if code.spent:
        code.grant.revoked = True
        provider.stats.code_reuses += 1
        raise OAuthError("invalid_grant", "the code was used before")
    if provider.now() >= code.expires or code.grant.revoked:
        raise OAuthError("invalid_grant", "the code is no longer good")
    if redirect_uri != code.redirect_uri:
        raise OAuthError("invalid_grant", "redirect_uri is not the one that the code went to")
    if not compare_digest(_challenge_of(verifier), code.challenge):
        raise OAuthError("invalid_grant", "code_verifier does not fit")
    code.spent = True
    provider.stats.code_exchanges += 1
    return _first_tokens(provider, code.grant)


def _first_tokens(provider: DemoProvider, grant: Grant) -> Answer:
    """A refresh token comes with offline access only (OpenID Connect Core section 11)."""
    answer = _tokens(provider, grant, grant.scope, nonce=grant.nonce)
    if OFFLINE_ACCESS in grant.scope:
        answer["refresh_token"] = _new_refresh_token(provider, grant)
    return answer


def _refresh(provider: DemoProvider, client: RegisteredClient, form: Form) -> Answer:
    """RFC 6749 section 6, with rotation and reuse detection as in RFC 9700 section 4.14.2."""
    (value,) = _required(form, "refresh_token")
    token = provider.state.refresh_tokens.get(value)
    if token is None or token.grant.client_id != client.client_id:
        raise OAuthError("invalid_grant", "the refresh token is unknown")
    grant = token.grant
    if token.spent:
        provider.stats.refresh_reuses += 1
        grant.revoked = grant.revoked or provider.options.reuse_detection
        raise OAuthError("invalid_grant", "the refresh token was used before")
    if grant.revoked or token.revoked or provider.now() >= token.expires:
        raise OAuthError("invalid_grant", "the refresh token is no longer good")
    scope = _narrowed(grant, form.get("scope"))
    if provider.use_up("invalid_grant"):
        grant.revoked = True
        raise OAuthError("invalid_grant", "the grant has ended")
    provider.stats.refresh_exchanges += 1
    answer = _tokens(provider, grant, scope, nonce=None)
    if not provider.options.id_token_on_refresh:
        answer.pop("id_token", None)
    if provider.options.rotation:
        token.spent = True
        answer["refresh_token"] = _new_refresh_token(provider, grant)
    return answer


def mint(provider: DemoProvider, subject: str, scope: tuple[str, ...]) -> Answer:
    """A token answer for the first client, as a login of that user would have given.

    Raises `ValueError` for a user or scope that there is not.
    """
    options = provider.options
    if subject not in options.users or not scope or not set(scope) <= set(options.scopes):
        raise ValueError("there is no such user or scope")
    session = provider.state.sign_in(None, subject, provider.now(), options.session_lifetime)
    grant = provider.grant(session, options.client_id, scope, nonce=None)
    return _first_tokens(provider, grant)


_GRANT_TYPES: Final[Mapping[str, Callable[[DemoProvider, RegisteredClient, Form], Answer]]] = {
    "authorization_code": _exchange_code,
    "refresh_token": _refresh,
}
GRANT_TYPES: Final = tuple(_GRANT_TYPES)


def _required(form: Form, *names: str) -> list[str]:
    for name in names:
        if name not in form:
            raise OAuthError("invalid_request", f"{name} is missing")
    return [form[name] for name in names]


def _challenge_of(verifier: str) -> str:
    """S256 of RFC 7636 section 4.6."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).decode()


def _narrowed(grant: Grant, asked: str | None) -> tuple[str, ...]:
    """The scope asked for, where it is within the one granted."""
    scope = grant.scope if asked is None else tuple(dict.fromkeys(asked.split()))
    if not scope or not set(scope) <= set(grant.scope):
        raise OAuthError("invalid_scope", "the scope is wider than the one granted")
    return scope


def _tokens(
    provider: DemoProvider, grant: Grant, scope: tuple[str, ...], *, nonce: str | None
) -> Answer:
    access_token = provider.issue_access_token(grant, scope)
    answer: Answer = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": provider.options.access_token_lifetime,
        "scope": " ".join(scope),
    }
    if OPENID in scope:
        answer["id_token"] = provider.issue_id_token(grant, access_token, nonce)
    return answer


def _new_refresh_token(provider: DemoProvider, grant: Grant) -> str:
    value = f"rt_{token_urlsafe(32)}"
    provider.state.refresh_tokens[value] = RefreshToken(grant)
    return value


# -- revocation and introspection -----------------------------------------------------------------


def revoke(provider: DemoProvider, client: RegisteredClient, form: Form) -> None:
    """RFC 7009 section 2: a token that is unknown is no error. Raises `OAuthError`."""
    (value,) = _required(form, "token")
    token = provider.state.refresh_tokens.get(value) or provider.state.access_tokens.get(value)
    if token is None:
        return
    if token.grant.client_id != client.client_id:
        raise OAuthError("invalid_grant", "the token was issued to another client")
    provider.stats.revocations += 1
    if isinstance(token, AccessToken):
        token.revoked = True
    elif provider.options.revocation_cascade:
        token.grant.revoked = True
    else:
        _revoke_refresh_tokens(provider, token.grant)


def _revoke_refresh_tokens(provider: DemoProvider, grant: Grant) -> None:
    for one in provider.state.refresh_tokens.values():
        if one.grant is grant:
            one.revoked = True


def introspect(provider: DemoProvider, client: RegisteredClient, form: Form) -> Answer:
    """RFC 7662 section 2: of any access token, and of the client's own refresh tokens.

    Public clients learn nothing, since they cannot be told from anybody. Raises `OAuthError`.
    """
    if client.is_public:
        raise OAuthError("invalid_client", "introspection is for clients with a secret", status=401)
    (value,) = _required(form, "token")
    provider.stats.introspections += 1
    refresh_token = provider.state.refresh_tokens.get(value)
    if refresh_token is not None:
        return _about_refresh_token(provider, client, refresh_token)
    checked = provider.verify(value)
    if not checked.is_live:
        return {"active": False}
    return {
        "active": True,
        "token_type": "Bearer",
        "iss": provider.issuer,
        "aud": provider.options.audience,
        "sub": checked.subject,
        "username": checked.subject,
        "client_id": checked.client_id,
        "scope": " ".join(checked.scope),
        "iat": checked.issued,
        "exp": checked.expires,
    }


def _about_refresh_token(
    provider: DemoProvider, client: RegisteredClient, token: RefreshToken
) -> Answer:
    grant = token.grant
    is_over = token.spent or token.revoked or grant.revoked or provider.now() >= token.expires
    if is_over or grant.client_id != client.client_id:
        return {"active": False}
    return {
        "active": True,
        "iss": provider.issuer,
        "sub": grant.subject,
        "username": grant.subject,
        "client_id": grant.client_id,
        "scope": " ".join(grant.scope),
        "exp": int(token.expires),
    }
