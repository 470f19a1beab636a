"""Strict parsing of HTTP/1.1: what two servers could read in two ways is an anomaly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_REQUEST_LINE: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21\x22\x24-\x7e\x80-\xff]+ HTTP/1\.[01]"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: |\Z)")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_LENGTH: Final = re.compile(r"[0-9]{1,19}")
_END: Final = b"\r\n\r\n"


@dataclass
class Message:
    """A request or response: `anomalies` are what is wrong with it, `is_whole` if all is here."""

    start: bytes
    raw: bytes
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[bytes] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)
    is_whole: bool = False
    at: int = 0  # where its head begins

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]

    def get(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def method(self) -> str:
        return self.start.split(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.start.split(b" ")[1].decode("latin-1") if b" " in self.start else ""

    @property
    def status(self) -> int:
        return int(self.start.split(b" ", 2)[1])

    @property
    def head(self) -> str:
        """Its head as it came, and each of its fields once more on a line."""
        lines = "\n".join(f"{name}: {value}" for name, value in self.fields)
        return self.raw.decode("latin-1") + "\n" + lines


def parse_head(raw: bytes, at: int = 0, *, control_passes: bool = False) -> Message:
    start, *lines = raw.split(b"\r\n")
    message = Message(start, raw, at=at)
    rest = raw.replace(b"\r\n", b"")
    message.anomalies += [
        f"{octet!r} in the head" for octet in (b"\0", b"\r", b"\n") if octet in rest
    ]
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (colon and _NAME.fullmatch(name)):
            message.anomalies.append(f"malformed field line {line[:40]!r}")
        if not control_passes and any(
            (octet < 32 and octet != 9) or octet == 127 for octet in value
        ):
            message.anomalies.append(f"control character in {line[:40]!r}")
        message.fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return message


def _read_chunks(message: Message, data: bytes, at: int) -> int | None:
    """Reads a chunked body; returns where it ends, None if it is incomplete or malformed."""
    while (end := data.find(b"\r\n", at)) >= 0:
        line, at = data[at:end], end + 2
        digits = line.partition(b";")[0]
        if b"\n" in line or b"\r" in line or not _CHUNK_SIZE.fullmatch(digits):
            message.anomalies.append(f"malformed chunk size {line[:30]!r}")
            return None
        size = int(digits, 16)
        if not size:
            return _behind_trailers(message, data, at)
        message.body += data[at : at + size]
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            message.anomalies.append("chunk without its end")
            return None
        at += size + 2
    return None


def _behind_trailers(message: Message, data: bytes, at: int) -> int | None:
    while (end := data.find(b"\r\n", at)) >= 0:
        if end == at:
            return at + 2
        message.trailers.append(data[at:end])
        at = end + 2
    return None


def _check_framing(message: Message) -> tuple[str, str]:
    """Its Content-Length and Transfer-Encoding."""
    lengths, codings = message.all("content-length"), message.all("transfer-encoding")
    if lengths and codings:
        message.anomalies.append("Content-Length beside Transfer-Encoding")
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        message.anomalies.append(f"Content-Length {lengths}")
        lengths = []
    if len(codings) > 1 or (codings and codings[0].lower() != "chunked"):
        message.anomalies.append(f"Transfer-Encoding {codings}")
    return next(iter(lengths), ""), next(iter(codings), "")


def _read_body(message: Message, data: bytes, at: int, length: str, coding: str) -> int:
    """Reads a framed body; returns where it ends as far as it is here."""
    if coding:
        end = _read_chunks(message, data, at)
        message.is_whole = end is not None
        return len(data) if end is None else end
    message.body = data[at : at + int(length or 0)]
    message.is_whole = len(message.body) == int(length or 0)
    return at + len(message.body)


def parse_request(data: bytes, *, control_passes: bool = False) -> tuple[Message | None, int]:
    """The first request of `data` and its length; None without a whole head."""
    end = data.find(_END)
    if end < 0:
        return None, 0
    message = parse_head(data[:end], control_passes=control_passes)
    if not _REQUEST_LINE.fullmatch(message.start):
        message.anomalies.append(f"malformed request line {message.start[:80]!r}")
    if len(message.all("host")) != 1:
        message.anomalies.append(f"Host {message.all('host')}")
    return message, _read_body(message, data, end + len(_END), *_check_framing(message))


def parse_responses(data: bytes, methods: list[str], *, has_ended: bool) -> list[Message]:
    """The final responses in `data`; the last one may be incomplete.

    `has_ended`: the connection has been closed in order.
    """
    found: list[Message] = []
    at = 0
    while (end := data.find(_END, at)) >= 0:
        message = parse_head(data[at:end], at)
        if not _STATUS_LINE.match(message.start):
            message.anomalies.append(f"malformed status line {message.start[:60]!r}")
            return [*found, message]
        at = end + len(_END)
        if 100 <= message.status < 200 and message.status != 101:
            continue
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        found.append(message)
        at = _read_response(message, data, at, method, has_ended=has_ended)
        if not message.is_whole:
            break
    return found


def _read_response(message: Message, data: bytes, at: int, method: str, *, has_ended: bool) -> int:
    length, coding = _check_framing(message)
    if method == "HEAD" or message.status in (204, 304):
        message.is_whole = True
        if message.status == 204 and (coding or length not in ("", "0")):
            message.anomalies.append("204 with a body")
        return at
    if message.status != 101 and (length or coding):
        return _read_body(message, data, at, length, coding)
    message.body = data[at:]
    message.is_whole = has_ended or message.status == 101
    return len(data)
