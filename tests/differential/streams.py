"""Random request streams: valid, odd and hostile. What is odd in a request is its tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

HOST: Final = b"app.example.com"
COOKIE: Final = b"Cookie: theme=dark; access_token=tok; lang=en"
HANDSHAKE: Final = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@dataclass(slots=True)
class Draft:
    """A request as it is made up: `line` and `host` are whole lines, `framing` those of a body."""

    name: bytes
    method: bytes = b"GET"
    target: bytes = b""
    version: bytes = b"HTTP/1.1"
    before: bytes = b""
    line: bytes | None = None
    hosts: list[bytes] = field(default_factory=lambda: [b"Host: " + HOST])
    lines: list[bytes] = field(default_factory=list)
    framing: list[bytes] = field(default_factory=list)
    body: bytes = b""
    end: bytes = b"\r\n"

    @property
    def smuggled(self) -> bytes:
        """What must stay a body."""
        return b"GET /%b.s HTTP/1.1\r\nHost: a\r\nX-Case: %b.s\r\n\r\n" % (self.name, self.name)

    def raw(self) -> bytes:
        """Its bytes."""
        line = self.line or b" ".join((self.method, self.target, self.version))
        lines = [line, *self.hosts, b"X-Case: " + self.name, *self.lines, *self.framing, b""]
        return self.before + b"".join(one + self.end for one in lines) + self.body


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of a stream: `tags` name what is odd in it."""

    name: str
    method: str
    tags: frozenset[str]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """What one client connection sends: `cuts` are where its segments end.

    `missing` bytes at its end are not sent.
    """

    number: int
    requests: tuple[Sent, ...]
    cuts: tuple[int, ...]
    missing: int = 0

    @property
    def raw(self) -> bytes:
        """All that is sent."""
        whole = b"".join(one.raw for one in self.requests)
        return whole[: len(whole) - self.missing]


Change = Callable[[Draft], None]


def _sets(**values: bytes | None) -> Change:
    def change(draft: Draft) -> None:
        for name, value in values.items():
            setattr(draft, name, None if value is None else value.replace(b"@", draft.name))

    return change


def _adds(*lines: bytes) -> Change:
    return lambda draft: draft.lines.extend(lines)


def _all(*changes: Change) -> Change:
    def change(draft: Draft) -> None:
        for one in changes:
            one(draft)

    return change


def _host(*lines: bytes) -> Change:
    def change(draft: Draft) -> None:
        draft.hosts = list(lines)

    return change


def _framed(body: bytes, *lines: bytes, method: bytes = b"POST") -> Change:
    """A body with framing lines; `@` is a request that must stay a body, `#` its size."""

    def change(draft: Draft) -> None:
        if draft.method == b"GET":  # else the method is what is odd
            draft.method = method
        inner = draft.smuggled
        draft.body = body.replace(b"@", inner).replace(b"#", b"%x" % len(inner))
        draft.framing = [one.replace(b"#", b"%d" % len(inner)) for one in lines]

    return change


def _coded(*values: bytes, body: bytes = b"5\r\nhello\r\n0\r\n\r\n") -> Change:
    return _framed(body, *(b"Transfer-Encoding: " + one for one in values))


def _chunks(body: bytes) -> Change:
    return _coded(b"chunked", body=body)


def _lengths(*values: bytes, body: bytes = b"hello") -> Change:
    return _framed(body, *(b"Content-Length: " + one for one in values))


def _line(template: bytes) -> Change:
    return _sets(line=template)


GROUPS: Final[Mapping[str, Mapping[str, Change]]] = MappingProxyType(
    {
        "method": {
            **{
                f"method {one}": _sets(method=one.encode())
                for one in ("HEAD", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "get", "FOO")
            },
            "method TRACE": _sets(method=b"TRACE"),
            "method CONNECT": _sets(method=b"CONNECT"),
            "method PRI": _sets(method=b"PRI"),
            "method with a character that no token has": _sets(method=b"G(T"),
            "method of 40 characters": _sets(method=b"M" * 40),
        },
        "target": {
            "query": _sets(target=b"/@?a=1&b=%20c&&d=/../x?y"),
            "escaped unreserved character": _sets(target=b"/@/%41%7e"),
            "escaped slash": _sets(target=b"/@/a%2Fb"),
            "escaped space": _sets(target=b"/@/a%20b"),
            "empty segment": _sets(target=b"//@//b"),
            "parameter of a segment": _sets(target=b"/@;a=b/c"),
            "dot segment": _sets(target=b"/@/../b"),
            "single dot segment": _sets(target=b"/@/./b"),
            "dot segment at the end": _sets(target=b"/@/.."),
            "dot segment above the root": _sets(target=b"/../@"),
            "escaped dot segment": _sets(target=b"/@/%2e%2E/b"),
            "dot segment, escaped twice": _sets(target=b"/@/%252e%252e/b"),
            "dot segment behind an escaped slash": _sets(target=b"/@/x%2f..%2fb"),
            "dot segment with a parameter": _sets(target=b"/@/..;/b"),
            "backslash": _sets(target=b"/@\\..\\b"),
            "escaped backslash": _sets(target=b"/@/%5cb"),
            "escaped NUL": _sets(target=b"/@/%00"),
            "escaped line break": _sets(target=b"/@/%0d%0ax"),
            "broken escape": _sets(target=b"/@/%zz"),
            "broken escape in the query": _sets(target=b"/@?a=%zz%"),
            "fragment": _sets(target=b"/@#f"),
            "space in the target": _sets(target=b"/@ b"),
            "octets beyond ASCII": _sets(target=b"/@/\xc3\xa4\xff"),
            "octets beyond ASCII in the query": _sets(target=b"/@?a=\xc3\xa4"),
            "characters that no URI has": _sets(target=b'/@/"<>^`{|}'),
            "characters that no URI has, in the query": _sets(target=b'/@?"<>^`{|}\\'),
            "control character in the target": _sets(target=b"/@\x01"),
            "tab in the target": _sets(target=b"/@\tb"),
            "NUL in the target": _sets(target=b"/@\0b"),
            "asterisk form": _sets(target=b"*", method=b"GET"),
            "asterisk form of OPTIONS": _sets(target=b"*", method=b"OPTIONS"),
            "absolute form": _sets(target=b"http://app.example.com/@"),
            "absolute form with an empty path": _sets(target=b"http://app.example.com"),
            "absolute form of https": _sets(target=b"https://app.example.com/@"),
            "absolute form of another host": _sets(target=b"http://other.example.com/@"),
            "absolute form with user information": _sets(target=b"http://u:p\x40app.example.com/@"),
            "absolute form of another scheme": _sets(target=b"ftp://app.example.com/@"),
            "authority form": _sets(target=b"app.example.com:80"),
            "relative path": _sets(target=b"@"),
            "target of 9,000 characters": _sets(target=b"/@/" + b"a" * 9000),
        },
        "version": {
            "HTTP/1.0": _sets(version=b"HTTP/1.0"),
            "HTTP/1.0 with keep-alive": _all(
                _sets(version=b"HTTP/1.0"),
                _adds(b"Connection: keep-alive"),
            ),
            "HTTP/1.2": _sets(version=b"HTTP/1.2"),
            "HTTP/2.0": _sets(version=b"HTTP/2.0"),
            "HTTP/0.9 with fields": _sets(version=b"HTTP/0.9"),
            "HTTP/1.10": _sets(version=b"HTTP/1.10"),
            "HTTP/01.1": _sets(version=b"HTTP/01.1"),
            "version in lower case": _sets(version=b"http/1.1"),
            "version of another protocol": _sets(version=b"ICE/1.1"),
            "space behind the version": _sets(version=b"HTTP/1.1 "),
            "two spaces in the request line": _line(b"GET  /@ HTTP/1.1"),
            "tabs in the request line": _line(b"GET\t/@\tHTTP/1.1"),
            "space before the request line": _line(b" GET /@ HTTP/1.1"),
            "request line without a version": _line(b"GET /@"),
            "empty line before the request": _sets(before=b"\r\n"),
            "several empty lines before the request": _sets(before=b"\r\n\r\n\r\n"),
            "bare line feed before the request": _sets(before=b"\n"),
        },
        "line syntax": {
            "line ends without CR": _sets(end=b"\n"),
            "one line end without CR": _adds(b"X-A: b\nX-B: c"),
            "CR in a value": _adds(b"X-A: b\rc"),
            "NUL in a value": _adds(b"X-A: b\0c"),
            "control character in a value": _adds(b"X-A: b\x01c"),
            "DEL in a value": _adds(b"X-A: b\x7fc"),
            "octets beyond ASCII in a value": _adds(b"X-A: \xc3\xa4\xff"),
            "tab in a value": _adds(b"X-A: b\tc"),
            "white space round a value": _adds(b"X-A: \t b \t "),
            "empty value": _adds(b"X-A:"),
            "folded line": _adds(b"X-A: b\r\n c"),
            "space before the colon": _adds(b"X-A : b"),
            "line without a colon": _adds(b"X-A"),
            "empty name": _adds(b": b"),
            "space in a name": _adds(b"X A: b"),
            "character in a name that no token has": _adds(b"X(A: b"),
            "octets beyond ASCII in a name": _adds(b"X-\xe4: b"),
            "NUL in a name": _adds(b"X\0A: b"),
            "field of 9,000 bytes": _adds(b"X-A: " + b"a" * 9000),
            "150 fields": _adds(*(b"X-%d: b" % at for at in range(150))),
        },
        "Host": {
            "no Host": _host(),
            "two Host fields": _host(b"Host: " + HOST, b"Host: other.example.com"),
            "the same Host twice": _host(b"Host: " + HOST, b"Host: " + HOST),
            "empty Host": _host(b"Host:"),
            "Host with a port": _host(b"Host: app.example.com:8080"),
            "Host with an empty port": _host(b"Host: app.example.com:"),
            "Host with a port that is no number": _host(b"Host: app.example.com:x"),
            "Host with a port above 65535": _host(b"Host: app.example.com:99999"),
            "Host in upper case": _host(b"Host: APP.Example.com"),
            "Host with a dot at its end": _host(b"Host: app.example.com."),
            "Host with an underscore": _host(b"Host: my_app.example.com"),
            "IPv6 Host": _host(b"Host: [::1]:80"),
            "Host with a space": _host(b"Host: app example"),
            "Host with user information": _host(b"Host: user@app.example.com"),
            "Host with a path": _host(b"Host: app.example.com/x"),
            "Host with a comma": _host(b"Host: a.example.com, b.example.com"),
            "Host with octets beyond ASCII": _host(b"Host: \xc3\xa4.example.com"),
            "Host with a space before the colon": _host(b"Host : app.example.com"),
            "Host on a folded line": _host(b"Host:\r\n app.example.com"),
        },
        "Connection": {
            "Connection: close": _adds(b"Connection: close"),
            "Connection: keep-alive": _adds(b"Connection: keep-alive", b"Keep-Alive: timeout=5"),
            "Connection: close, keep-alive": _adds(b"Connection: close, keep-alive"),
            "Connection names a field": _adds(b"X-Hop: a", b"Connection: x-hop"),
            "Connection names a field, in two lines": _adds(
                b"Connection: keep-alive", b"X-Hop: a", b"Connection: ,X-HOP ,"
            ),
            "Connection names Host": _adds(b"Connection: host"),
            "Connection names Authorization and Cookie": _adds(
                b"Connection: authorization, cookie", b"Cookie: a=b"
            ),
            "Connection names Content-Length": _all(
                _lengths(b"5"),
                _adds(b"Connection: content-length"),
            ),
            "Connection names Transfer-Encoding": _all(
                _chunks(b"5\r\nhello\r\n0\r\n\r\n"),
                _adds(b"Connection: transfer-encoding"),
            ),
            "Connection names X-Forwarded-For": _adds(b"Connection: x-forwarded-for"),
            "Connection with an option that is no token": _adds(b"Connection: a b, (c)"),
            "Proxy-Connection": _adds(b"Proxy-Connection: keep-alive"),
            "Upgrade to h2c": _adds(
                b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"
            ),
            "Upgrade without Connection": _adds(b"Upgrade: websocket"),
            "WebSocket handshake": _adds(*HANDSHAKE),
            "WebSocket handshake that lists h2c": _adds(
                b"Connection: Upgrade", b"Upgrade: websocket, h2c", *HANDSHAKE[2:]
            ),
            "WebSocket handshake without a key": _adds(*HANDSHAKE[:2]),
        },
        "framing": {
            "Content-Length": _lengths(b"#", body=b"@"),
            "Content-Length of a GET": _framed(b"@", b"Content-Length: #", method=b"GET"),
            "Content-Length of a HEAD": _framed(b"hello", b"Content-Length: 5", method=b"HEAD"),
            "Content-Length: 0": _lengths(b"0", body=b""),
            "Content-Length: 0 of a GET": _framed(b"", b"Content-Length: 0", method=b"GET"),
            "POST without a body": _framed(b""),
            "body of 100,000 bytes": _lengths(b"100000", body=b"x" * 100_000),
            "the same Content-Length twice": _lengths(b"5", b"5"),
            "two Content-Length": _lengths(b"0", b"#", body=b"@"),
            "Content-Length as a list of the same": _lengths(b"5, 5"),
            "Content-Length as a list": _lengths(b"0, #", body=b"@"),
            "Content-Length with a sign": _lengths(b"+5"),
            "negative Content-Length": _lengths(b"-5"),
            "hexadecimal Content-Length": _lengths(b"0x5"),
            "Content-Length with leading zeros": _lengths(b"0005"),
            "Content-Length with a space within": _lengths(b"0 5"),
            "empty Content-Length": _lengths(b"", body=b""),
            "Content-Length above 64 bits": _lengths(b"18446744073709551621"),
            "Content-Length that is no number": _lengths(b"five"),
            "space before the colon of Content-Length": _framed(b"@", b"Content-Length : #"),
            "Content-Length on a folded line": _framed(b"@", b"Content-Length:\r\n #"),
            "chunked": _chunks(b"#\r\n@\r\n0\r\n\r\n"),
            "chunked, of a GET": _framed(
                b"#\r\n@\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", method=b"GET"
            ),
            "chunked, empty": _chunks(b"0\r\n\r\n"),
            "chunked, in upper case": _coded(b"CHUNKED"),
            "chunked, 100,000 bytes": _chunks(b"186A0\r\n%b\r\n0\r\n\r\n" % (b"x" * 100_000)),
            "Content-Length beside chunked": _framed(
                b"0\r\n\r\n@", b"Content-Length: #", b"Transfer-Encoding: chunked"
            ),
            "Content-Length behind chunked": _framed(
                b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Content-Length: 5"
            ),
            "chunked in HTTP/1.0": _all(
                _chunks(b"5\r\nhello\r\n0\r\n\r\n"),
                _sets(version=b"HTTP/1.0"),
            ),
            "Transfer-Encoding twice": _coded(b"chunked", b"chunked"),
            "chunked, chunked": _coded(b"chunked, chunked"),
            "gzip, chunked": _coded(b"gzip, chunked"),
            "chunked, gzip": _coded(b"chunked, gzip"),
            "gzip alone": _coded(b"gzip", body=b"hello"),
            "Transfer-Encoding: identity": _coded(b"identity", body=b""),
            "Transfer-Encoding: xchunked": _coded(b"xchunked"),
            "chunked with a parameter": _coded(b"chunked;q=1"),
            "chunked in quotes": _coded(b'"chunked"'),
            "chunked with an empty member": _coded(b", chunked"),
            "chunked with a comma at its end": _coded(b"chunked,"),
            "chunked with a control character": _coded(b"\x0bchunked"),
            "empty Transfer-Encoding": _coded(b"", body=b""),
            "tab before chunked": _framed(
                b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding:\tchunked"
            ),
            "space before the colon of Transfer-Encoding": _framed(
                b"0\r\n\r\n@", b"Transfer-Encoding : chunked", b"Content-Length: 5"
            ),
            "Transfer-Encoding on a folded line": _framed(
                b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding:\r\n chunked"
            ),
            "Transfer_Encoding": _framed(b"@", b"Transfer_Encoding: chunked", b"Content-Length: #"),
        },
        "chunks": {
            "chunk extension": _chunks(b"5;a=b\r\nhello\r\n0\r\n\r\n"),
            "quoted chunk extension": _chunks(b'5;a="b;c"\r\nhello\r\n0;x\r\n\r\n'),
            "chunk extension with a space": _chunks(b"5 ; a = b\r\nhello\r\n0\r\n\r\n"),
            "chunk extension of 5,000 bytes": _chunks(
                b"5;a=%b\r\nhello\r\n0\r\n\r\n" % (b"b" * 5000)
            ),
            "chunk extension with a line feed": _chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
            "chunk extension with a CR": _chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
            "empty chunk extension": _chunks(b"5;\r\nhello\r\n0\r\n\r\n"),
            "chunk size with leading zeros": _chunks(b"00005\r\nhello\r\n000\r\n\r\n"),
            "chunk size with a space": _chunks(b"5 \r\nhello\r\n0\r\n\r\n"),
            "chunk size with a space before": _chunks(b" 5\r\nhello\r\n0\r\n\r\n"),
            "chunk size with a sign": _chunks(b"+5\r\nhello\r\n0\r\n\r\n"),
            "chunk size with 0x": _chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
            "chunk size that is no number": _chunks(b"g\r\nhello\r\n0\r\n\r\n"),
            "empty chunk size": _chunks(b"\r\nhello\r\n0\r\n\r\n"),
            "chunk size above 64 bits": _chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
            "chunk size with a bare line feed": _chunks(b"5\nhello\r\n0\r\n\r\n"),
            "chunk data with a bare line feed": _chunks(b"5\r\nhello\n0\r\n\r\n"),
            "chunk without an end": _chunks(b"5\r\nhello0\r\n\r\n"),
            "chunk that is too long": _chunks(b"5\r\nhelloX\r\n0\r\n\r\n"),
            "last line of chunks with a bare line feed": _chunks(b"5\r\nhello\r\n0\r\n\n"),
            "trailer": _chunks(b"5\r\nhello\r\n0\r\nX-T: a\r\n\r\n"),
            "trailer with framing": _chunks(b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n"),
            "trailer with Authorization": _chunks(b"5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n"),
            "trailer without a colon": _chunks(b"5\r\nhello\r\n0\r\nX-T\r\n\r\n"),
            "folded trailer": _chunks(b"5\r\nhello\r\n0\r\nX-T: a\r\n b\r\n\r\n"),
            "trailer that looks like a request": _chunks(b"0\r\n@\r\n"),
        },
        "Expect": {
            "Expect: 100-continue": _all(
                _lengths(b"5"),
                _adds(b"Expect: 100-continue"),
            ),
            "Expect in another case": _all(
                _lengths(b"5"),
                _adds(b"Expect: 100-Continue"),
            ),
            "Expect of a GET": _adds(b"Expect: 100-continue"),
            "another Expect": _all(
                _lengths(b"5"),
                _adds(b"Expect: 200-ok"),
            ),
            "Expect in HTTP/1.0": _all(
                _lengths(b"5"),
                _adds(b"Expect: 100-continue"),
                _sets(version=b"HTTP/1.0"),
            ),
        },
        "fields": {
            "field twice": _adds(b"X-A: 1", b"x-a: 2"),
            "field with _": _adds(b"X_A: b"),
            "field with .": _adds(b"X.A: b"),
            "field with other characters of tokens": _adds(b"X!#$%&'*+^`|~: b"),
            "field that names the user": _adds(b"X-User: admin", b"X-Auth-Request-Email: a@b"),
            "X-Forwarded-For": _adds(b"X-Forwarded-For: 203.0.113.1", b"X-Forwarded-Proto: https"),
            "Forwarded": _adds(b"Forwarded: for=203.0.113.1", b"X-Real-IP: 203.0.113.1"),
            "X-Original-URL": _adds(b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin"),
            "X-HTTP-Method-Override": _adds(b"X-HTTP-Method-Override: DELETE"),
            "Via": _adds(b"Via: 1.1 a", b"Via: 1.0 b"),
            "TE": _adds(b"TE: trailers"),
            "Trailer": _adds(b"Trailer: X-T"),
            "Accept-Encoding": _adds(b"Accept-Encoding: br, gzip;q=0.5, zstd"),
            "Accept-Encoding twice": _adds(b"Accept-Encoding: gzip", b"Accept-Encoding: br"),
            "Range": _adds(b"Range: bytes=0-1", b'If-Range: "a"'),
            "If-Match": _adds(
                b'If-Match: W/"a", "b"', b'If-None-Match: "c"', b'If-None-Match: "d"'
            ),
            "Cookie twice": _adds(b"Cookie: a=b", b"Cookie: c=d"),
            "odd Cookie": _adds(b'Cookie: ;; a="b;c" ,=x; d'),
            "Authorization": _adds(b"Authorization: Bearer stranger"),
            "Authorization twice": _adds(b"Authorization: a", b"Authorization: Bearer b"),
            "Proxy-Authorization": _adds(b"Proxy-Authorization: Basic eDp5"),
            "Max-Forwards": _adds(b"Max-Forwards: 5"),
            "Max-Forwards: 0 of OPTIONS": _all(
                _sets(method=b"OPTIONS"),
                _adds(b"Max-Forwards: 0"),
            ),
            "Proxy": _adds(b"Proxy: http://evil.example.com"),
            "traceparent": _adds(b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
            "malformed traceparent": _adds(b"traceparent: x"),
            "X-Request-Id": _adds(b"X-Request-Id: given-1"),
            "malformed X-Request-Id": _adds(b"X-Request-Id: a b"),
            "session cookie": _adds(COOKIE),
            "Origin of another site": _adds(
                b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site"
            ),
            "Content-Type twice": _adds(b"Content-Type: text/plain", b"Content-Type: text/html"),
            "Date and Server": _adds(b"Date: x", b"Server: y"),
            "X-Accel-Redirect": _adds(b"X-Accel-Redirect: /secret"),
        },
    }
)

ALL: Final = MappingProxyType(
    {tag: change for group in GROUPS.values() for tag, change in group.items()}
)
"""Every change by its tag."""

PLAIN: Final = "nothing odd"
CUT: Final = "cut off"
_EXCLUSIVE: Final = frozenset(("framing", "chunks", "Expect"))


_PARTS: Final = ("method", "target", "version", "before", "hosts", "framing", "body", "end")
_LINE: Final = frozenset(("method", "target", "version"))


def _changed(before: Draft, after: Draft) -> set[str]:
    """The parts of a request that are other ones."""
    found = {name for name in _PARTS if getattr(before, name) != getattr(after, name)}
    return found if before.line == after.line else found | _LINE


_ABSOLUTE: Final = re.compile(rb"[a-z]+://([^/@]+)(/|\Z)")
_EARLY: Final = (b"HTTP/1.0", b"HTTP/0.9")
_BODILESS: Final = (b"GET", b"HEAD", b"DELETE")
_KEYLESS: Final = "WebSocket handshake without a key"


def _consequences(draft: Draft) -> Iterator[str]:
    """The oddities that come of two others together."""
    if draft.version == b"HTTP/1.0" and any(b"Transfer-Encoding" in one for one in draft.framing):
        yield "chunked in HTTP/1.0"
    if draft.version in _EARLY and draft.method in _BODILESS and draft.body:
        yield "body of GET, HEAD or DELETE in HTTP/1.0"
    found = _ABSOLUTE.match(draft.target)
    if found and draft.hosts:
        host = draft.hosts[0].partition(b":")[2].strip().lower().rstrip(b":")
        if host != found[1]:
            yield "absolute form of another host"


def make(name: str, tags: list[str]) -> Sent:
    """The request with these oddities, but for those that would undo one before."""
    draft = Draft(name.encode(), target=b"/" + name.encode())
    owned: set[str] = set()
    kept = []
    for tag in tags:
        made = deepcopy(draft)
        ALL[tag](made)
        changed = _changed(draft, made)
        if owned.isdisjoint(changed):
            owned |= changed
            draft = made
            kept.append(tag)
    kept += _consequences(draft)
    if draft.body and _KEYLESS in kept:
        kept.remove(_KEYLESS)  # with a body it is no handshake at all
    return Sent(name, draft.method.decode("latin-1"), frozenset(kept), draft.raw())


_LONG: Final = frozenset(("target of 9,000 characters", "field of 9,000 bytes"))


def _tags(random: Random) -> list[str]:
    """None to two oddities of different groups, of which one at most frames a body.

    Two that are long at once would but fill the 15 KiB that HAProxy has for a head.
    """
    number = random.choices((0, 1, 2), (2, 6, 3))[0]
    groups = random.sample(list(GROUPS), number)
    framing = [one for one in groups if one in _EXCLUSIVE]
    groups = [one for one in groups if one not in framing[1:]]
    groups.sort(key=list(GROUPS).index)
    tags = [random.choice(list(GROUPS[one])) for one in groups]
    return tags[:1] if _LONG.issuperset(tags) else tags


def stream(random: Random, number: int) -> Stream:
    """One client connection: one to three requests, cut anywhere, now and then cut off."""
    count = random.choices((1, 2, 3), (6, 3, 1))[0]
    made = tuple(make(f"c{number}.{at}", _tags(random)) for at in range(count))
    length = sum(len(one.raw) for one in made)
    last = len(made[-1].raw)
    missing = random.randrange(1, last) if random.random() < 0.08 else 0
    cuts = sorted(random.sample(range(1, length), random.choice((0, 0, 0, 1, 3))))
    return Stream(number, made, tuple(cuts), missing)


def single(tag: str, number: int) -> Stream:
    """One request with one oddity, between two that have none."""
    made = (
        make(f"c{number}.0", []),
        make(f"c{number}.1", [tag]),
        make(f"c{number}.2", []),
    )
    return Stream(number, made, ())
