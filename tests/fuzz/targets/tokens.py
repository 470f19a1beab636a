"""What a provider sends is believed if its key has signed it for this client, else refused.

An input says the kind. A signed token has the claims of the input, under the right key or changed
afterwards; responses of the token endpoint, metadata and key sets are read as they are.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.jwk import KeySet, OKPKey

from sidecar.core.credential import is_b64token
from sidecar.core.discovery import BadMetadata, parse_metadata
from sidecar.core.end_request import BadEndRequest, read_end_request
from sidecar.core.jws import InvalidToken, parse_keys, verify
from sidecar.core.oidc.authorization_response import answer_parameters, read_answer
from sidecar.core.oidc.id_token import ID_TOKEN, read_id_token, with_userinfo
from sidecar.core.oidc.provider_logout import LOGOUT_TOKEN, read_logout_token
from sidecar.core.oidc.relying_party import LoginFailed, OidcClient
from sidecar.core.token_response import AnswerPaths, Outcome, read_http, read_oauth2
from sidecar.core.token_set import TokenSet, jwt_claims
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import NOW

ISSUER: Final = "https://idp.example.com"
KEY: Final = OKPKey.import_key(
    {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": "k",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }
)
KEYS: Final = KeySet([OKPKey.import_key(KEY.as_dict(private=False))])
CLIENT: Final = OidcClient(ISSUER, "app", ("openid",), claims=(("email",), ("groups",)))
OLD: Final = TokenSet("old", "old-refresh")
METADATA: Final = parse_metadata(
    msgspec.json.encode(
        {
            "issuer": ISSUER,
            **{
                name: f"{ISSUER}/{name}"
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            },
        }
    ),
    ISSUER,
)
STATUSES: Final = (200, 201, 302, 400, 401, 403, 404, 410, 422, 429, 500, 503)


@dataclass(frozen=True)
class _Answer:
    status: int
    content_type: str
    body: bytes


def check(data: bytes) -> None:
    draw = Draw(data)
    draw.pick((_signed, _changed, _any_text, _token_response, _documents, _query))(draw)


def _sign(payload: bytes, type_: str | None) -> str:
    header = {"alg": "Ed25519", "kid": "k", **({"typ": type_} if type_ else {})}
    registry = jws.JWSRegistry(algorithms=["Ed25519"], strict_check_header=False)
    return jws.serialize_compact(header, payload, KEY, registry=registry)


def _signed(draw: Draw) -> None:
    """Claims that the provider has signed: an identity comes of nothing but the right ones."""
    type_ = draw.pick((None, "JWT", "logout+jwt", "at+jwt"))
    payload = draw.rest()
    _judge(_sign(payload, type_), payload)


def _judge(token: str, payload: bytes | None) -> None:
    """`payload`: what was signed; None: nothing was."""
    try:
        verified = verify(token, KEYS, ("Ed25519",), ID_TOKEN)
        identity = read_id_token(verified, CLIENT, nonce="n", access_token="a", now=NOW)
        claims = _claims(payload)
        assert (claims["iss"], claims["nonce"]) == (ISSUER, "n")
        assert identity.subject == claims["sub"]
        _is_for_us(claims)
        assert claims["exp"] > NOW - 61
        with_userinfo(identity, claims, CLIENT.claims)
    except InvalidToken as error:
        _tells_no_token(token, str(error))
    try:
        verified = verify(token, KEYS, ("Ed25519",), LOGOUT_TOKEN)
        logout = read_logout_token(verified, CLIENT, now=NOW)
        claims = _claims(payload)
        assert claims["iss"] == ISSUER
        assert "nonce" not in claims
        _is_for_us(claims)
        assert logout.ends_at > NOW
        assert logout.subject or logout.sid
    except InvalidToken as error:
        _tells_no_token(token, str(error))
    jwt_claims(token)


def _claims(payload: bytes | None) -> dict[str, Any]:
    assert payload is not None, "a token is believed that nobody has signed"
    return msgspec.json.decode(payload, type=dict[str, Any])


def _is_for_us(claims: dict[str, Any]) -> None:
    assert "app" in (claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]])


def _tells_no_token(token: str, message: str) -> None:
    assert not any(len(part) > 12 and part in message for part in token.split("."))


_GENUINE: Final = {
    "iss": ISSUER,
    "aud": "app",
    "sub": "u",
    "iat": NOW,
    "exp": NOW + 300,
    "nonce": "n",
    "email": "u@example.com",
}
_LOGOUT: Final = {
    **{name: value for name, value in _GENUINE.items() if name != "nonce"},
    "jti": "j",
    "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
}
_TOKENS: Final = (
    _sign(msgspec.json.encode(_GENUINE), None),
    _sign(msgspec.json.encode(_LOGOUT), "logout+jwt"),
)


def _changed(draw: Draw) -> None:
    """A genuine token that was changed: nothing is signed any more but in another spelling."""
    token = genuine = draw.pick(_TOKENS)
    while draw.left:
        at, octet = (draw.byte() << 8 | draw.byte()) % (len(token) + 1), chr(draw.byte())
        kind = draw.byte() % 3
        token = token[:at] + (octet if kind < 2 else "") + token[at + (kind > 0) :]
    is_same = token.split(".")[:2] == genuine.split(".")[:2]
    payload = msgspec.json.encode(_GENUINE if genuine is _TOKENS[0] else _LOGOUT)
    _judge(token, payload if is_same else None)


def _any_text(draw: Draw) -> None:
    _judge(draw.rest().decode("latin-1"), None)


def _code(answer: _Answer) -> str:
    """The error code of a response (RFC 6749 5.2), which is told: that is what it is for."""
    try:
        code = msgspec.json.decode(answer.body)["error"]
    except (msgspec.MsgspecError, TypeError, KeyError, UnicodeDecodeError):
        return "\0"
    return str(code)


def _token_response(draw: Draw) -> None:
    status = draw.pick(STATUSES)
    kind = draw.pick(("application/json", "text/html; charset=utf-8", "", "\xe9\udcff"))
    paths = draw.pick((AnswerPaths(), AnswerPaths(("data", "accessToken"), ("data", "r"), ("e",))))
    answer = _Answer(status, kind, draw.rest())
    for renewal in (read_oauth2(answer, OLD, NOW), read_http(answer, paths, OLD, NOW)):
        tokens = renewal.tokens
        assert (tokens is not None) == (renewal.outcome is Outcome.RENEWED)
        if tokens is None:
            assert "canary" not in renewal.why.replace(_code(answer), ""), "a body is told"
            assert renewal.why
        else:
            assert is_b64token(tokens.access_token)
            assert 200 <= status < 300
            assert tokens.refresh_token is not None
            assert tokens.refresh_token.isascii()


def _documents(draw: Draw) -> None:
    body = draw.rest()
    with contextlib.suppress(BadMetadata):
        assert parse_metadata(body, ISSUER).issuer == ISSUER
    with contextlib.suppress(InvalidToken):
        assert len(list(parse_keys(body))) <= 100
    with contextlib.suppress(BadEndRequest):
        read_end_request(body)


def _query(draw: Draw) -> None:
    parameters = answer_parameters(draw.rest().decode("utf-8", "surrogateescape"))
    try:
        assert read_answer(parameters, METADATA, ISSUER).isascii()
    except LoginFailed as error:
        assert error.code.isascii()
        assert error.description.isprintable()


TARGET: Final = Target(
    check,
    words=[
        *(
            f'"{name}":'.encode()
            for name in ("iss", "aud", "sub", "sid", "exp", "iat", "nbf", "azp")
        ),
        *(
            b'"nonce":"n"',
            b'"at_hash":',
            b'"events":{',
            b'"jti":"j"',
            b'["app"]',
            b'"app"',
            b"null",
        ),
        *(
            b"1800000000",
            b"1800000100",
            b"true",
            b"1e400",
            b"-1",
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b"\xff",
        ),
        *(
            b'"access_token":"',
            b'"refresh_token":',
            b'"expires_in":',
            b'"token_type":',
            b'"error":"',
        ),
        *(
            b"invalid_grant",
            b"invalid_request",
            b'"error_description":"canary refresh token expired"',
        ),
        *(
            b'"data":{"accessToken":"',
            b'"issuer":"https://idp.example.com"',
            b'"keys":[{"kty":"OKP"',
        ),
        *(
            b'"crv":"Ed25519"',
            b'"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"',
            b'"n":"',
            b'"e":"AQAB"',
        ),
        *(b"code=", b"&state=", b"&iss=https%3A%2F%2Fidp.example.com", b"error=", b"%0a", b"%ff"),
        *(b"eyJhbGciOiJub25lIn0", b"eyJhbGciOiJIUzI1NiJ9", b"."),
    ],
    seeds=[
        b"\0\0" + msgspec.json.encode(_GENUINE),
        b"\0\2" + msgspec.json.encode(_LOGOUT),
        bytes([1, 0, 0, 40, 65, 1]),
        bytes([1, 1, 0, 200, 65, 1]),
        b"\2" + _TOKENS[0].encode()[:60],
        bytes([3, 0, 0, 0]) + b'{"access_token":"a","refresh_token":"r","expires_in":300}',
        bytes([3, 3, 0, 0]) + b'{"error":"invalid_grant","error_description":"canary"}',
        bytes([3, 0, 0, 1]) + b'{"data":{"accessToken":"a","r":"b"},"e":"300"}',
        b"\4" + msgspec.json.encode(KEYS.as_dict()),
        b'\4{"issuer":"https://idp.example.com","token_endpoint":"https://a/b"}',
        b'\4{"sub":"a","known_only":true}',
        b"\5?code=abc&iss=https%3A%2F%2Fidp.example.com",
        b"\5?error=access_denied&error_description=no%0Away",
    ],
    longest=1024,
)
