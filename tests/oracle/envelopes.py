"""What becomes of one upstream answer: a plain reading of docs and specification, without a stream.

`expected` says which outcomes are right for a body, whatever pieces it comes in. It knows nothing
of the sidecar: it parses with Python's own `json`, and finds members by their offsets.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

HELD_BACK: Final = 65536  # bytes beyond the buffer for which the head of an error waits
HELD: Final = 65536  # bytes of a late envelope's members that are surely held
TEXT_LIMIT: Final = 4096
ENVELOPE: Final = ("isError", "message", "data", "status", "errorData")
JSON_TYPES: Final = ("application/json", "application/problem+json", "text/json")


def _raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


def _gzip(data: bytes) -> bytes:
    """Without the time, so that the same data are the same bytes a second later."""
    return gzip.compress(data, mtime=0)


CODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "identity": bytes,
    "gzip": _gzip,
    "deflate": zlib.compress,
    "Deflate": _raw_deflate,
    "br": lambda data: b"\x8b" + data,  # nobody here can undo it
    "x-gzip": lambda data: _gzip(data)[:-1],  # cut
}
UNDOES: Final = ("", "identity", "gzip", "deflate", "Deflate")


@dataclass(frozen=True)
class Sent:
    """One answer: what it says of itself, and the body before it is coded."""

    status: int
    kind: str
    coding: str
    body: bytes
    buffer: int


@dataclass(frozen=True)
class Outcome:
    """A whole answer: its status, and its envelope (parsed) or else its body."""

    status: int
    envelope: Any = None
    body: bytes | None = None


@dataclass(frozen=True)
class Expected:
    """The outcomes that are right. `may_break`: so is a connection that breaks.

    `may_refuse`: a stream may refuse to go on, which breaks no connection while the head is held.
    """

    outcomes: tuple[Outcome, ...]
    may_break: bool = False
    may_refuse: bool = False


BAD_GATEWAY: Final = Outcome(502, {"code": "upstream_protocol"})


def parsed(text: bytes) -> Any:
    """JSON with every digit kept; the last of equal names wins. Raises `ValueError`."""
    return json.loads(
        text.decode(), parse_int=_Number, parse_float=_Number, parse_constant=_no_constant
    )


class _Number(str):
    """A number as it is spelled; never equal to a string of the same characters."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def expected(sent: Sent) -> Expected:
    """What is right for an answer."""
    is_error = sent.status >= 400
    if not is_error and sent.coding not in UNDOES and sent.coding != "x-gzip":
        return _passes(sent)
    if sent.kind not in JSON_TYPES:
        return Expected((_not_json(sent),)) if is_error else _passes(sent)
    if sent.coding not in UNDOES:
        return _not_valid(sent)
    if not sent.body:
        return Expected((_not_json(sent) if is_error else _success(sent, None, None),))
    try:
        value = parsed(sent.body)
    except ValueError:
        return _not_valid(sent)
    return _wrapped(sent, value)


def _passes(sent: Sent) -> Expected:
    coded = CODINGS[sent.coding](sent.body)
    if not coded:
        return Expected((_success(sent, None, None),))
    return Expected((Outcome(sent.status, body=coded),))


def _not_valid(sent: Sent) -> Expected:
    if sent.status < 400:
        return Expected((BAD_GATEWAY,), may_break=len(sent.body) > sent.buffer)
    return Expected((_not_json(sent),), may_break=len(sent.body) > sent.buffer + HELD_BACK)


def _not_json(sent: Sent) -> Outcome:
    is_text = sent.kind == "text/plain" and sent.coding in UNDOES
    text = _text(sent.body) if is_text else ""
    carried = text if text and len(sent.body) <= TEXT_LIMIT else None
    return _failure(sent, "Some Phrase", carried)


def _text(body: bytes) -> str:
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    try:
        return body.decode("utf-8-sig")
    except ValueError:
        return body.decode("latin-1")


def _success(sent: Sent, message: Any, data: Any) -> Outcome:
    members = (False, message, data, _Number(sent.status), None)
    return Outcome(sent.status, dict(zip(ENVELOPE, members, strict=True)))


def _failure(sent: Sent, message: Any, data: Any) -> Outcome:
    members = (True, message, None, _Number(sent.status), data)
    return Outcome(sent.status, dict(zip(ENVELOPE, members, strict=True)))


def _wrapped(sent: Sent, value: Any) -> Expected:
    whole = _envelope(sent, value, value)
    if len(sent.body) <= sent.buffer:
        return Expected((whole,))
    if not isinstance(value, dict):
        return Expected((whole,))
    places = _members(sent.body)
    seen = {name: told for name, start, _, told in places if start < sent.buffer}
    if "data" not in seen:
        return Expected((_envelope(sent, value, seen, is_stream=True),))
    # It is what a short one is, or nobody may be told anything else.
    if len(places) == len(value):  # no member is repeated
        is_known = any(name == "isError" and end < sent.buffer for name, _, end, _ in places)
        is_early = is_known and _is_envelope(seen)
        is_alike = sent.status < 400 and value.get("isError") is False and len(sent.body) <= HELD
        if is_early or is_alike or not _is_envelope(value):
            return Expected((whole,))
    is_held = sent.status >= 400 and len(sent.body) <= sent.buffer + HELD_BACK
    return Expected((whole,), may_break=not is_held, may_refuse=True)


def _envelope(sent: Sent, value: Any, seen: Any, *, is_stream: bool = False) -> Outcome:
    """`seen` is what counts of the members: all of them, or those that begin in the buffer."""
    members = seen if isinstance(seen, dict) else {}
    if _is_envelope(members):
        return Outcome(sent.status, value)
    names = ["message"]
    if sent.status >= 400 and sent.kind == "application/problem+json":
        names += ["detail", "title"]
    message = next(
        (members[one] for one in names if one in members and _is_true(members[one])), None
    )
    data = members.get("data", value)
    if "data" not in members and list(members) == ["message"] and not is_stream:
        data = None
    if sent.status < 400:
        return _success(sent, message, data)
    return _failure(sent, "Some Phrase" if message is None else message, data)


def _is_envelope(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() >= set(ENVELOPE)
        and (isinstance(value["isError"], bool))
    )


def _is_true(value: Any) -> bool:
    if isinstance(value, _Number):
        return float(value) != 0 or not set(value.lower().partition("e")[0]) <= set("-0.")
    return isinstance(value, dict | list) or bool(value)


def _members(body: bytes) -> list[tuple[str, int, int, Any]]:
    """The members of an object in order, each with the bytes between which its value stands."""
    text = body.decode()
    decoder = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
    found: list[tuple[str, int, int, Any]] = []
    at = _behind_space(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _behind_space(text, _behind_space(text, at) + 1)
        start = len(text[:at].encode())
        value, at = decoder.raw_decode(text, at)
        found.append((name, start, len(text[:at].encode()), value))
        at = _behind_space(text, at)
        if text[at] == ",":
            at = _behind_space(text, at + 1)
    return found


def _behind_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
