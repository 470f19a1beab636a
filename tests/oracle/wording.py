"""An ask's bytes, and what its upstream is to see of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from tests.oracle.history import ALL, HEAD_END, Ask, Kind

if TYPE_CHECKING:
    from tests.oracle.users import User

_EVIL: Final = (
    b"\r\n\r\nGET /api/echo/smuggled HTTP/1.1\r\nHost: app.example.com\r\n"
    b"Cookie: access_token=evil\r\n\r\n0\r\n\r\n"
)
"""Fills bodies: a request that nobody has sent, however the body is read."""

_FILLING: Final = _EVIL * (80_000 // len(_EVIL))


@dataclass(frozen=True, slots=True)
class Worded:
    """A request in bytes: its head up to `head_end`; `body` as its upstream is to see it."""

    nonce: str
    data: bytes
    head_end: int
    body: bytes

    @property
    def sha(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def at(self, offset: int) -> int:
        """The byte that an offset of a `Cut` stands for."""
        if offset > HEAD_END // 2:
            offset += self.head_end - HEAD_END
        elif offset < 0:
            offset += len(self.data)
        return max(0, min(offset, len(self.data)))


def worded(ask: Ask, whose: User, nonce: str) -> Worded:
    """The bytes of an ask. Its nonce is in the target, and in what else is its own."""
    kind = ALL[ask.kind]
    framing = kind.framing
    body = nonce.encode() + _FILLING[: max(0, ask.size - len(nonce))] if ask.size else b""
    after = body
    if framing == "frames":
        body = nonce.encode()
        after = _frame(body)
    elif framing in ("chunked", "trailers"):
        after = _chunks(body, extended=framing == "trailers")
    target = f"{kind.path}/{nonce}" if ask.kind != "logout" else kind.path
    if framing == "malformed" and ask.look == 0:
        target += " x"
    line = f"{kind.method} {target} {kind.version}"
    head = "\r\n".join([line, *_fields(ask, kind, whose, nonce, len(body))]) + "\r\n\r\n"
    blank = "\r\n" * ask.blank
    data = (blank + head).encode()
    return Worded(nonce, data + after, len(data), body)


def _fields(ask: Ask, kind: Kind, whose: User, nonce: str, length: int) -> list[str]:
    fields = [
        "Host: app.example.com",
        f"X-Whose: {whose.name}",
        f"Cookie: {whose.cookie}",
        "Accept: */*",
        *kind.fields,
    ]
    if kind.framing == "length":
        fields.append(f"Content-Length: {length}")
    elif kind.framing in ("chunked", "trailers"):
        fields.append("Transfer-Encoding: chunked")
    elif kind.framing == "malformed":
        if ask.look == 1:
            fields += ["Content-Length: 5", "Transfer-Encoding: chunked"]
        elif ask.look == 2:
            fields += ["X-Odd: a\rb"]
    if kind.framing == "malformed":
        return fields
    if kind.framing or ask.look:
        fields.append(f"X-Nonce: {nonce}")
    if ask.look:
        if ask.look == 2:
            fields.append(f"X-Request-Id: {nonce}")
        Random(ask.look).shuffle(fields)
        fields = [_cased(field, ask.look) for field in fields]
    return fields


def _cased(field: str, look: int) -> str:
    name, colon, value = field.partition(":")
    return (name.upper() if look == 1 else name.lower()) + colon + value


def _chunks(body: bytes, *, extended: bool) -> bytes:
    step = max(7, len(body) // 3)
    extension = b';a="b"' if extended else b""
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    coded = b"".join(b"%X%b\r\n%b\r\n" % (len(one), extension, one) for one in pieces)
    trailers = b"X-Sum: 1\r\nAuthorization: Bearer evil\r\n" if extended else b""
    return coded + b"0\r\n" + trailers + b"\r\n"


def _frame(text: bytes) -> bytes:
    """A masked text frame (RFC 6455 5.2); its mask is all zeros."""
    return bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text
