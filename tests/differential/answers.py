"""Odd and hostile responses of an upstream. What is odd in a response is its tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

from tests.differential.upstream import Step

BODY: Final = b"hello"
_OK: Final = b"HTTP/1.1 200 OK"
_TYPE: Final = b"Content-Type: text/plain"
_LENGTH: Final = b"Content-Length: 5"
_CHUNKED: Final = b"Transfer-Encoding: chunked"
_CHUNKS: Final = b"5\r\nhello\r\n0\r\n\r\n"
_EVIL: Final = b"HTTP/1.1 200 OK\r\nX-Answer: evil\r\nContent-Length: 4\r\n\r\nevil"


def _head(line: bytes, *fields: bytes, end: bytes = b"\r\n") -> bytes:
    return b"".join(one + end for one in (line, *fields, b""))


def _line(line: bytes) -> Sequence[Step]:
    return (_head(line, _TYPE, _LENGTH) + BODY,)


def _with(*fields: bytes, body: bytes = BODY) -> Sequence[Step]:
    return (_head(_OK, _TYPE, _LENGTH, *fields) + body,)


def _framed(*fields: bytes, body: bytes = BODY, closes: bool = False) -> Sequence[Step]:
    whole = _head(_OK, _TYPE, *fields) + body
    return (whole, None) if closes else (whole,)


def _chunks(body: bytes, *, closes: bool = False) -> Sequence[Step]:
    return _framed(_CHUNKED, body=body, closes=closes)


ANSWERS: Final[Mapping[str, Sequence[Step]]] = MappingProxyType(
    {
        # the status line
        "plain": _with(),
        "no reason phrase": _line(b"HTTP/1.1 200 "),
        "no reason phrase and no space": _line(b"HTTP/1.1 200"),
        "HTTP/1.0": (_head(b"HTTP/1.0 200 OK", _TYPE, _LENGTH) + BODY, None),
        "HTTP/1.0 that keeps alive": (
            _head(b"HTTP/1.0 200 OK", _TYPE, _LENGTH, b"Connection: keep-alive") + BODY,
        ),
        "HTTP/1.2": _line(b"HTTP/1.2 200 OK"),
        "HTTP/2.0": _line(b"HTTP/2.0 200 OK"),
        "HTTP/0.9": _line(b"HTTP/0.9 200 OK"),
        "lower-case version": _line(b"http/1.1 200 OK"),
        "version of another protocol": _line(b"ICY 200 OK"),
        "no HTTP": (b"hello\r\n\r\n", None),
        "status 099": _line(b"HTTP/1.1 099 X"),
        "status 600": _line(b"HTTP/1.1 600 X"),
        "status 999": _line(b"HTTP/1.1 999 X"),
        "status of four digits": _line(b"HTTP/1.1 2000 X"),
        "status of two digits": _line(b"HTTP/1.1 20 X"),
        "status that is no number": _line(b"HTTP/1.1 2x0 X"),
        "two spaces before the status": _line(b"HTTP/1.1  200 OK"),
        "reason phrase beyond ASCII": _line(b"HTTP/1.1 200 \xc3\xa4\xff"),
        "control character in the reason phrase": _line(b"HTTP/1.1 200 O\x01K"),
        "empty line before the response": (b"\r\n" + _with()[0],),  # type: ignore[operator]
        "space before the status line": (b" " + _with()[0],),  # type: ignore[operator]
        # lines
        "line ends without CR": (_head(_OK, _TYPE, _LENGTH, end=b"\n") + BODY,),
        "one line end without CR": _with(b"X-A: b\nX-B: c"),
        "CR in a value": _with(b"X-A: b\rc"),
        "NUL in a value": _with(b"X-A: b\0c"),
        "control character in a value": _with(b"X-A: b\x01c"),
        "DEL in a value": _with(b"X-A: b\x7fc"),
        "octets beyond ASCII in a value": _with(b"X-A: \xc3\xa4\xff"),
        "tab in a value": _with(b"X-A: b\tc"),
        "empty value": _with(b"X-A:"),
        "folded line": _with(b"X-A: b\r\n c"),
        "space before the colon": _with(b"X-A : b"),
        "line without a colon": _with(b"X-A"),
        "empty name": _with(b": b"),
        "space in a name": _with(b"X A: b"),
        "character in a name that no token has": _with(b"X(A: b"),
        "octets beyond ASCII in a name": _with(b"X-\xe4: b"),
        "underscore in a name": _with(b"X_A: b"),
        "field of 3,000 bytes": _with(b"X-A: " + b"a" * 3000),
        "field of 9,000 bytes": _with(b"X-A: " + b"a" * 9000),
        "field of 70,000 bytes": _with(b"X-A: " + b"a" * 70_000),
        "90 fields": _with(*(b"X-%d: b" % at for at in range(90))),
        "150 fields": _with(*(b"X-%d: b" % at for at in range(150))),
        # framing
        "the same Content-Length twice": _framed(_LENGTH, _LENGTH),
        "two Content-Length": _framed(_LENGTH, b"Content-Length: 3"),
        "Content-Length as a list": _framed(b"Content-Length: 5, 5"),
        "Content-Length with a sign": _framed(b"Content-Length: +5"),
        "negative Content-Length": _framed(b"Content-Length: -5"),
        "hexadecimal Content-Length": _framed(b"Content-Length: 0x5"),
        "Content-Length with a space within": _framed(b"Content-Length: 5 0"),
        "Content-Length above 64 bits": _framed(b"Content-Length: 18446744073709551621"),
        "Content-Length with leading zeros": _framed(b"Content-Length: 0005"),
        "empty Content-Length": _framed(b"Content-Length:"),
        "Content-Length that is too long": _framed(b"Content-Length: 9", closes=True),
        "Content-Length: 0": _framed(b"Content-Length: 0", body=b""),
        "no framing": _framed(closes=True),
        "no framing, and empty": _framed(body=b"", closes=True),
        "chunked": _chunks(_CHUNKS),
        "chunked, in upper case": _framed(b"Transfer-Encoding: CHUNKED", body=_CHUNKS),
        "chunked, empty": _chunks(b"0\r\n\r\n"),
        "chunked in HTTP/1.0": (
            _head(b"HTTP/1.0 200 OK", _TYPE, _CHUNKED) + _CHUNKS,
            None,
        ),
        "Content-Length beside chunked": _framed(_LENGTH, _CHUNKED, body=_CHUNKS),
        "Transfer-Encoding twice": _framed(_CHUNKED, _CHUNKED, body=_CHUNKS),
        "chunked, chunked": _framed(b"Transfer-Encoding: chunked, chunked", body=_CHUNKS),
        "gzip, chunked": _framed(b"Transfer-Encoding: gzip, chunked", body=_CHUNKS),
        "gzip alone": _framed(b"Transfer-Encoding: gzip", closes=True),
        "Transfer-Encoding: identity": _framed(b"Transfer-Encoding: identity", closes=True),
        "Transfer-Encoding: xchunked": _framed(b"Transfer-Encoding: xchunked", body=_CHUNKS),
        "chunk extension": _chunks(b'5;a="b;c"\r\nhello\r\n0;x\r\n\r\n'),
        "chunk size with a space": _chunks(b"5 \r\nhello\r\n0\r\n\r\n"),
        "chunk size with leading zeros": _chunks(b"0005\r\nhello\r\n000\r\n\r\n"),
        "chunk size with 0x": _chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
        "chunk size that is no number": _chunks(b"g\r\nhello\r\n0\r\n\r\n"),
        "chunk size above 64 bits": _chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        "chunk size with a bare line feed": _chunks(b"5\nhello\r\n0\r\n\r\n"),
        "chunk data with a bare line feed": _chunks(b"5\r\nhello\n0\r\n\r\n"),
        "chunk that is too long": _chunks(b"5\r\nhelloX\r\n0\r\n\r\n", closes=True),
        "chunks that end early": _chunks(b"9\r\nhello", closes=True),
        "chunks without the last one": _chunks(b"5\r\nhello\r\n", closes=True),
        "trailer": _chunks(b"5\r\nhello\r\n0\r\nX-T: a\r\n\r\n"),
        "trailer that frames": _chunks(b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n"),
        "bytes behind the response": (_head(_OK, _TYPE, _LENGTH) + BODY + b"evil",),
        "second response behind the first": (_head(_OK, _TYPE, _LENGTH) + BODY + _EVIL,),
        "second response behind chunks": (_head(_OK, _TYPE, _CHUNKED) + _CHUNKS + _EVIL,),
        "204": (_head(b"HTTP/1.1 204 No Content"),),
        "204 with a length": (_head(b"HTTP/1.1 204 No Content", b"Content-Length: 0"),),
        "204 with a body": (_head(b"HTTP/1.1 204 No Content", _LENGTH) + BODY,),
        "204 with chunks": (_head(b"HTTP/1.1 204 No Content", _CHUNKED) + _CHUNKS,),
        "205 with a body": (_head(b"HTTP/1.1 205 Reset Content", _LENGTH) + BODY,),
        "304": (_head(b"HTTP/1.1 304 Not Modified", b'ETag: "a"'),),
        "304 with a length": (_head(b"HTTP/1.1 304 Not Modified", _LENGTH),),
        "304 with a body": (_head(b"HTTP/1.1 304 Not Modified", _LENGTH) + BODY,),
        "HEAD with a length": (_head(_OK, _TYPE, _LENGTH),),
        "HEAD with a body": _with(),
        "HEAD with chunks": _chunks(_CHUNKS),
        # interim responses, and ends
        "100 before the response": (b"HTTP/1.1 100 Continue\r\n\r\n", *_with()),
        "102 before the response": (b"HTTP/1.1 102 Processing\r\n\r\n", *_with()),
        "103 before the response": (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
            *_with(),
        ),
        "100 and the response in one segment": (b"HTTP/1.1 100 Continue\r\n\r\n" + _with()[0],),  # type: ignore[operator]
        "40 interim responses": (b"HTTP/1.1 100 Continue\r\n\r\n" * 40, *_with()),
        "100 with a length": (
            b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello",
            *_with(),
        ),
        "101 that was not asked for": (
            _head(b"HTTP/1.1 101 X", b"Upgrade: websocket", b"Connection: Upgrade"),
            b"hello",
        ),
        "end before a byte": (None,),
        "end within the head": (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        # fields
        "Connection: close": (*_with(b"Connection: close"), None),
        "Connection names a field": _with(b"X-Hop: a", b"Connection: x-hop"),
        "Connection names Content-Length": _with(b"Connection: content-length"),
        "Connection names Set-Cookie": _with(b"Set-Cookie: a=b", b"Connection: set-cookie"),
        "Keep-Alive": _with(b"Keep-Alive: timeout=5", b"Connection: keep-alive"),
        "Proxy-Authenticate": _with(b"Proxy-Authenticate: Basic"),
        "Proxy-Connection": _with(b"Proxy-Connection: keep-alive"),
        "Upgrade": _with(b"Upgrade: h2c", b"Connection: Upgrade"),
        "Trailer": _with(b"Trailer: X-T"),
        "Set-Cookie twice": _with(b"Set-Cookie: a=b; Path=/", b"Set-Cookie: c=d, e; HttpOnly"),
        "field twice": _with(b"X-A: 1", b"x-a: 2"),
        "Content-Type twice": _with(b"Content-Type: text/html"),
        "no Content-Type": (_head(_OK, _LENGTH) + BODY,),
        "Date": _with(b"Date: Tue, 15 Nov 1994 08:12:31 GMT"),
        "Date twice": _with(
            b"Date: Tue, 15 Nov 1994 08:12:31 GMT", b"Date: Tue, 15 Nov 1994 08:12:32 GMT"
        ),
        "Server": _with(b"Server: x"),
        "Via": _with(b"Via: 1.1 a"),
        "Location at the upstream": (
            _head(b"HTTP/1.1 302 Found", b"Location: /next", b"Content-Length: 0"),
        ),
        "Location elsewhere": (
            _head(b"HTTP/1.1 302 Found", b"Location: https://x.example/a", b"Content-Length: 0"),
        ),
        "two Location": (
            _head(b"HTTP/1.1 302 Found", b"Location: /a", b"Location: /b", b"Content-Length: 0"),
        ),
        "caching": _with(b'ETag: "a"', b"Cache-Control: public", b"Age: 5", b"Vary: Accept"),
        "Cache-Control twice": _with(b"Cache-Control: no-cache", b"Cache-Control: max-age=5"),
        "CORS for credentials": _with(
            b"Access-Control-Allow-Origin: *", b"Access-Control-Allow-Credentials: true"
        ),
        "WWW-Authenticate": (
            _head(b"HTTP/1.1 401 Unauthorized", b"WWW-Authenticate: Basic", _LENGTH) + BODY,
        ),
        "407": (_head(b"HTTP/1.1 407 X", b"Proxy-Authenticate: Basic", _LENGTH) + BODY,),
        "X-Accel fields": _with(b"X-Accel-Expires: 5", b"X-Accel-Buffering: no"),
        "X-Accel-Redirect": _with(b"X-Accel-Redirect: /c0.1-redirected"),
        "Refresh": _with(b"Refresh: 0; url=/x"),
        "Expires and Pragma": _with(b"Expires: 0", b"Pragma: no-cache"),
        "X-Request-Id": _with(b"X-Request-Id: theirs"),
        "Content-Encoding": _with(b"Content-Encoding: br"),
        "status 500": _line(b"HTTP/1.1 500 X"),
        "status 503": _line(b"HTTP/1.1 503 X"),
        "status 418": _line(b"HTTP/1.1 418 X"),
        "JSON": (_head(_OK, b"Content-Type: application/json", _LENGTH) + b'{"a":'[:5],),
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for, and how its response comes."""

    number: int
    tag: str
    method: str
    version: str
    script: tuple[Step, ...]

    @property
    def raw(self) -> bytes:
        """The first request; `second` comes behind its response."""
        name = f"c{self.number}.0"
        keep = "Connection: keep-alive\r\n" if self.version == "HTTP/1.0" else ""
        line = f"{self.method} /{name} {self.version}\r\nHost: app.example.com\r\n"
        return f"{line}X-Case: {name}\r\n{keep}\r\n".encode()

    @property
    def second(self) -> bytes:
        """A request that finds nothing odd."""
        name = f"c{self.number}.1"
        line = f"GET /{name} HTTP/1.1\r\nHost: app.example.com\r\n"
        return f"{line}X-Case: {name}\r\n\r\n".encode()


_OF_HEAD: Final = frozenset(("HEAD with a body", "HEAD with chunks", "HEAD with a length"))


def asked(random: Random, number: int, tag: str) -> Asked:
    """A response that is cut anywhere, to a request by GET, or by HEAD where its tag says so."""
    script: list[Step] = []
    for step in ANSWERS[tag]:
        if step is None:
            script.append(None)
            continue
        most = min(len(step) - 1, random.choice((0, 0, 1, 3)))
        cuts = sorted(random.sample(range(1, len(step)), most))
        script += [step[at:to] for at, to in zip((0, *cuts), (*cuts, len(step)), strict=True)]
    method = "HEAD" if tag in _OF_HEAD else "GET"
    version = random.choice(("HTTP/1.1", "HTTP/1.1", "HTTP/1.0"))
    return Asked(number, tag, method, version, tuple(script))
