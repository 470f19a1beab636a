"""A request that holds a token itself, in whatever spelling an endpoint undoes."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest

from sidecar.core import repetition
from sidecar.core.repetition import LONGEST, SentText

TOKEN = "same/token+for.ever=="
JWT = "aGVhZA.Ym9keQ.c2lnbg"


def repeats(request: bytes, credential: str) -> bool:
    return SentText(request).holds(credential)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        TOKEN.rstrip("="),
        quote(TOKEN, safe=""),
        quote(quote(TOKEN, safe=""), safe=""),
        quote(json.dumps({"a": TOKEN})),
        "".join(f"%{ord(char):02x}" for char in TOKEN),
        escaped(TOKEN),
        quote(escaped(TOKEN)),
        escaped(quote(TOKEN, safe="")),
        TOKEN.replace("/", "\\/"),
        *(b64encode(("abc"[:n] + TOKEN + "abc"[:m]).encode()).decode()
          for n in range(4) for m in range(4)),
        urlsafe_b64encode(TOKEN.encode()).decode(),
        quote(b64encode(TOKEN.encode()).decode()),
    ],
)  # fmt: skip
def test_it_is_found(text: str) -> None:
    assert repeats(f"POST /x HTTP/1.1\r\nHost: a\r\n\r\n{text}".encode(), TOKEN)


@pytest.mark.parametrize("text", [JWT, "aGVhZA.Ym9keQ.AAAA", "aGVhZA.Ym9keQ"])
def test_a_jwt_is_found_by_what_is_signed(text: str) -> None:
    assert repeats(text.encode(), JWT)


def test_a_short_token_is_not_found_by_chance() -> None:
    assert not repeats(b"POST /login HTTP/1.1\r\nHost: dG9r\r\n\r\n{}", "tok1")


@pytest.mark.parametrize("text", ["", "same/token", "user=me&password=secret", "\\", "%", "\\u"])
def test_nothing_else_is(text: str) -> None:
    assert not repeats(f"POST /x HTTP/1.1\r\nHost: a\r\n\r\n{text}".encode(), TOKEN)


def test_a_long_request_may_hold_anything() -> None:
    """A stranger's megabyte of escapes is not decoded."""
    assert not repeats(b"x" * LONGEST, TOKEN)
    assert repeats(b"x" * (LONGEST + 1), TOKEN)


def test_a_request_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again for each token that the response repeats: that held up everybody."""
    decoded: list[bytes] = []
    decode = repetition._decoded

    def counted(text: bytes) -> tuple[bytes, bytes]:
        decoded.append(text)
        return decode(text)

    monkeypatch.setattr(repetition, "_decoded", counted)
    sent = SentText(escaped(quote("nothing", safe="")).encode())
    assert not any(sent.holds(f"token-number-{number}") for number in range(256))
    assert 0 < len(decoded) < 16
