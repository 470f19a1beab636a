"""The envelope built in memory: upstream answers, empty ones, text, and the sidecar's own."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from sidecar.core.envelope.document import Document
from sidecar.core.envelope.failure import FailureRule, has_failed

TEXT_LIMIT: Final = 4096  # bytes of a text/plain error that are carried as errorData

_UNKNOWN: Final = "Unknown error"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_SUCCESS_TAIL: Final = {
    status: b',"status":%d,"errorData":null' % status for status in range(100, 1000)
}
_ERROR_MIDDLE: Final = {
    status: b',"data":null,"status":%d,"errorData":' % status for status in range(100, 1000)
}
# JavaScript's falsy values; a zero stays one with any sign, fraction and exponent.
_falsy: Final = re.compile(rb'null|false|""|-?0(?:\.0+)?(?:[eE][+-]?[0-9]+)?').fullmatch
_PROBLEM_STAND_INS: Final = (("detail",), ("title",))  # RFC 9457 section 3.1

_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

_encode_json: Final = msgspec.json.encode

Parts: TypeAlias = tuple[bytes | Raw, ...]
"""A text in pieces, so that a long one need not be copied."""


class EnvelopeRule(msgspec.Struct, frozen=True):
    """How one route's answers are wrapped; compiled at load.

    `keep` names members carried along behind the five; `data`, `message` and `error_data` are
    the paths at which payload and message are found; `buffer` (bytes) is built in memory at most;
    `compress` says whether envelopes are compressed for clients that accept it; `failure` which
    answers below 400 are errors.
    """

    keep: tuple[str, ...] = ()
    data: tuple[str, ...] = ("data",)
    message: tuple[str, ...] = ("message",)
    error_data: tuple[str, ...] = ("data",)
    buffer: int = 1_048_576
    compress: bool = True
    failure: tuple[FailureRule, ...] = ()

    def kept(self, payload: tuple[str, ...]) -> tuple[str, ...]:
        """The names of `keep` that an answer with its payload at this path carries.

        Nothing is carried twice: neither the payload's own member, nor a name that is repeated.
        """
        return tuple(name for name in dict.fromkeys(self.keep) if payload[:1] != (name,))

    def message_paths(self, *, problem: bool) -> tuple[tuple[str, ...], ...]:
        """Where an error's message is looked for, in this order."""
        return (self.message, *_PROBLEM_STAND_INS) if problem else (self.message,)


def encode(value: Any) -> bytes:
    """`value` as compact JSON in UTF-8; lone surrogates in strings are escaped, never an error."""
    try:
        return _encode_json(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def is_truthy(raw: bytes | Raw) -> bool:
    """Whether a raw JSON value is truthy as in JavaScript (so `{}` and `[]` are)."""
    return _falsy(raw) is None


def default_message(status: int, reason: str) -> bytes:
    """The JSON text of the reason phrase: the upstream's, the registered one, "Unknown error".

    The phrase of a status below 400 names no error.
    """
    if status < 400:
        return encode(_UNKNOWN)
    return encode(reason or _PHRASES.get(status, _UNKNOWN))


def wrap(
    rule: EnvelopeRule, document: Document, status: int, reason: str, *, problem: bool = False
) -> bytes:
    """The envelope around a whole document (`envelope_parts`)."""
    return b"".join(envelope_parts(rule, document, status, reason, problem=problem))


def envelope_parts(
    rule: EnvelopeRule, document: Document, status: int, reason: str, *, problem: bool = False
) -> Parts:
    """The envelope around a whole document; one that is an envelope already comes back as it is.

    The payload is no copy of the document's bytes. `reason` is the upstream's phrase, possibly
    empty; `problem` says that the type is application/problem+json (RFC 9457). `status` below 400
    is a success, unless a rule of `failure` holds.
    """
    members = document.members
    if members and "isError" in members and document.is_envelope:
        return (document.body,)
    if status >= 400 or (rule.failure and has_failed(rule.failure, document)):
        return _error_parts(rule, document, status, reason, problem=problem)
    message_path, data_path = rule.message, rule.data
    if members is None:
        message = payload = None
    elif len(message_path) == len(data_path) == 1:  # nearly every rule
        message, payload = members.get(message_path[0]), members.get(data_path[0])
    else:
        message, payload = document.find(message_path), document.find(data_path)
    return (
        b'{"isError":false,"message":',
        b"null" if message is None or _falsy(message) else message,
        b',"data":',
        _whole(rule, document) if payload is None else payload,
        _SUCCESS_TAIL[status],
        _kept(rule.kept(rule.data), document) if rule.keep else b"",
        b"}",
    )


def _error_parts(
    rule: EnvelopeRule, document: Document, status: int, reason: str, *, problem: bool
) -> Parts:
    payload = document.find(rule.error_data)
    return (
        b'{"isError":true,"message":',
        _find_message(rule, document, problem=problem) or default_message(status, reason),
        _ERROR_MIDDLE[status],
        _whole(rule, document) if payload is None else payload,
        _kept(rule.kept(rule.error_data), document) if rule.keep else b"",
        b"}",
    )


def _find_message(rule: EnvelopeRule, document: Document, *, problem: bool) -> Raw | None:
    for path in rule.message_paths(problem=problem):
        message = document.find(path)
        if message is not None and not _falsy(message):
            return message
    return None


def _whole(rule: EnvelopeRule, document: Document) -> bytes:
    """The payload of a document without a member for it: itself, null if that is the message."""
    members = document.members
    if members is not None and len(members) == 1 and rule.message == (next(iter(members)),):
        return b"null"
    return document.text


def _kept(keep: tuple[str, ...], document: Document) -> bytes:
    members = document.members or {}
    return b"".join(b",%b:%b" % (encode(name), members[name]) for name in keep if name in members)


def success_head(message: bytes | None) -> bytes:
    """The streamed envelope of a success up to its payload; without `message` it comes later."""
    return b'{"isError":false%b,"data":' % _message_member(message)


def success_tail(status: int) -> bytes:
    """What follows a success's payload, but for later members and the closing brace."""
    return _SUCCESS_TAIL[status]


def error_head(status: int, message: bytes | None) -> bytes:
    """The streamed envelope of an error up to its payload; without `message` it comes later."""
    return b'{"isError":true%b%b' % (_message_member(message), _ERROR_MIDDLE[status])


def _message_member(message: bytes | None) -> bytes:
    return b"" if message is None else b',"message":' + message


def wrap_empty(status: int) -> bytes:
    """The envelope of a 2xx without content."""
    return b'{"isError":false,"message":null,"data":null%b}' % _SUCCESS_TAIL[status]


def wrap_text(status: int, reason: str, text: bytes | None) -> bytes:
    """The envelope of a 4xx or 5xx that is not JSON.

    `text` is the body if it is text/plain, else None; carried up to `TEXT_LIMIT` bytes.
    """
    told = "" if text is None or len(text) > TEXT_LIMIT else _decode_text(text)
    error_data = encode(told) if told else b"null"
    return _error(default_message(status, reason), status, error_data)


def _decode_text(text: bytes) -> str:
    """A text by its byte order mark (Encoding Standard, "decode"), else UTF-8, else Latin-1."""
    if text.startswith(_UTF_16_MARKS):
        return text.decode("utf-16", "replace")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def fault(status: int, message: str, code: str, request_id: str, **extra: Any) -> bytes:
    """The sidecar's own error: `errorData` is `{"code", "requestId"}` and `extra`."""
    return _error(encode(message), status, encode({"code": code, "requestId": request_id, **extra}))


def _error(message: bytes, status: int, error_data: bytes) -> bytes:
    return b'{"isError":true,"message":%b%b%b}' % (message, _ERROR_MIDDLE[status], error_data)


def success(status: int, data: dict[str, Any]) -> bytes:
    """The sidecar's own success."""
    return b'{"isError":false,"message":null,"data":%b%b}' % (encode(data), _SUCCESS_TAIL[status])
