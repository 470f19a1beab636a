"""A login session in few bytes, to be sealed into cookies: page servers take few.

Compressed before it is encrypted, a text tells by its length how much of it repeats. Whoever could
put guesses beside a secret, and watch the length, would learn the secret (CRIME). So no secret is
in what is compressed: of each JWT its header and claims, and what is told of the user. Signatures,
opaque tokens and the session's id stand apart as they are; without its signature a JWT lets nobody
in. They are random as well, so that compression would gain nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sidecar.core.tickets import decode, encode
from sidecar.core.token_set import TokenSet

MOST: Final = 512 * 1024
"""Bytes of claims that are unpacked. What was sealed here never has so many."""


class _Packed(msgspec.Struct, array_like=True):
    """`members` are the session's but for tokens and profile; `secrets` of each token what is
    secret: all of it as text, or a JWT's signature. `told` is compressed: the profile, then header
    and claims of each such JWT.
    """

    members: dict[str, Any]
    times: tuple[float | None, float | None, int]
    secrets: tuple[Any, Any, Any]
    told: bytes


def pack(members: dict[str, Any], profile: dict[str, Any], tokens: TokenSet) -> bytes:
    """The members of a session, what is told of its user, and its tokens."""
    told: list[Any] = [profile]
    parted = tuple(
        _part(token, told) for token in (tokens.access_token, tokens.refresh_token, tokens.id_token)
    )
    compressed = zlib.compress(msgspec.msgpack.encode(told), 9)
    times = (tokens.expires_at, tokens.issued_at, tokens.generation)
    return msgspec.msgpack.encode(_Packed(members, times, parted, compressed))


def unpack(packed: bytes) -> tuple[dict[str, Any], Any, TokenSet]:
    """What `pack` was given. Raises `ValueError` for anything else."""
    row = msgspec.msgpack.decode(packed, type=_Packed)
    decompressor = zlib.decompressobj()
    try:
        told = decompressor.decompress(row.told, MOST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not decompressor.eof:
        raise ValueError("it is too long")
    profile, *claims = msgspec.msgpack.decode(told, type=list[Any])
    rest = iter(claims)
    access, refresh, id_token = (_whole(secret, rest) for secret in row.secrets)
    expires_at, issued_at, generation = row.times
    tokens = TokenSet(access or "", refresh, expires_at, issued_at, id_token, generation)
    return row.members, profile, tokens


def _part(token: str | None, told: list[Any]) -> Any:
    """What is secret of a token; the rest of a JWT is added to what is `told`."""
    parts = [decode(part) for part in (token or "").split(".")]
    if token is None or len(parts) != 3 or None in parts:
        return token
    told += parts[:2]
    return parts[2]


def _whole(secret: Any, told: Iterator[Any]) -> str | None:
    if secret is None or isinstance(secret, str):
        return secret
    if not isinstance(secret, bytes):
        raise ValueError("a token is none")
    head, claims = next(told, None), next(told, None)
    if not isinstance(head, bytes) or not isinstance(claims, bytes):
        raise ValueError("a part of a token is missing")
    return ".".join(map(encode, (head, claims, secret)))
