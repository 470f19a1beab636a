"""Every name of aiohttp that is private, or moves, exists in the version that is pinned.

Private names move between patch releases: an upgrade fails here first, by name.
"""

from __future__ import annotations

import ast
import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import base_protocol, http_exceptions, http_parser, streams
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, HttpResponseParser

from sidecar.net.parsers import require_c_parsers

ROOT: Final = Path(__file__).parent.parent
USERS: Final = [
    *(ROOT / "sidecar/net").glob("*.py"),
    ROOT / "sidecar/web/connection.py",
    ROOT / "sidecar/web/request_parser.py",
]

# What the classes that derive from BaseProtocol inherit of its private side.
INHERITED: Final = frozenset(
    (
        "_buffer_paused",
        "_drain_helper",
        "_loop",
        "_parser",
        "_pause_reading_for_buffer",
        "_paused",
        "_reading_paused",
        "_resume_reading_for_buffer",
        "_upgraded",
    )
)
PROTOCOLS: Final = {"BaseProtocol", "StreamProtocol"}
PUBLIC: Final = {
    BaseProtocol: "connected connection_lost connection_made pause_reading pause_writing "
    "resume_reading resume_writing transport",
    streams.StreamReader: "at_eof exception is_eof read_nowait set_exception total_bytes",
    http_parser.RawRequestMessage: "chunked headers method path raw_headers should_close upgrade "
    "version",
    http_parser.RawResponseMessage: "code raw_headers reason should_close upgrade",
}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def request_parser(loop: asyncio.AbstractEventLoop, protocol: BaseProtocol) -> Any:
    return HttpRequestParser(
        protocol,
        loop,
        65536,
        max_line_size=65536,
        max_field_size=65536,
        max_headers=512,
        auto_decompress=False,
        max_msg_queue_size=1,
    )


def response_parser(loop: asyncio.AbstractEventLoop, protocol: BaseProtocol) -> Any:
    return HttpResponseParser(
        protocol,
        loop,
        65536,
        max_line_size=65536,
        max_field_size=65536,
        max_headers=512,
        response_with_body=True,
        read_until_eof=True,
        auto_decompress=False,
    )


def test_the_version_is_the_pinned_one() -> None:
    """What is tested here is what will be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"aiohttp=={aiohttp.__version__}" in project["dependencies"]


def test_both_parsers_are_the_c_ones() -> None:
    """aiohttp falls back on its Python ones without a word (T67)."""
    require_c_parsers()
    for parser in (HttpRequestParser, HttpResponseParser):
        assert parser.__module__ == "aiohttp._http_parser"


def own_names(node: ast.ClassDef) -> set[str]:
    """What a class defines itself: methods, and names in `__slots__`."""
    names = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    slots = [one.value for one in node.body if isinstance(one, ast.Assign)]
    return (
        names
        | {
            text.value
            for value in slots
            for text in ast.walk(value)
            if isinstance(text, ast.Constant) and isinstance(text.value, str)
        }
        | {
            target.attr
            for one in ast.walk(node)
            if isinstance(one, ast.AnnAssign) and isinstance(target := one.target, ast.Attribute)
        }
    )


def inherited_names() -> set[str]:
    """The private attributes of `self` that the subclasses of BaseProtocol do not define."""
    found: set[str] = set()
    for file in USERS:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and PROTOCOLS & set(map(ast.unparse, node.bases)):
                found |= {
                    one.attr
                    for one in ast.walk(node)
                    if isinstance(one, ast.Attribute)
                    and isinstance(one.value, ast.Name)
                    and one.value.id == "self"
                    and one.attr.startswith("_")
                } - own_names(node)
    return found


def test_every_inherited_private_name_is_listed_here() -> None:
    """A new use shows up in this file, where its reason is asked for."""
    assert {"_paused", "_drain_helper"} <= inherited_names() <= INHERITED


@pytest.mark.parametrize("name", sorted(INHERITED))
def test_base_protocol_has_the_private_name(name: str, loop: asyncio.AbstractEventLoop) -> None:
    """As a method, or as an attribute from the start."""
    assert hasattr(BaseProtocol(loop), name)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in PUBLIC.items() for name in names.split()],
)
def test_public_names_are_where_they_are_looked_for(
    owner: type, name: str, loop: asyncio.AbstractEventLoop
) -> None:
    """They are not documented for this use either."""
    subject = owner if owner is not BaseProtocol else BaseProtocol(loop)
    assert hasattr(subject, name) or name in owner.__dict__.get("__slots__", ())


def test_base_protocol_takes_slots() -> None:
    """Its subclasses declare theirs."""
    assert base_protocol.BaseProtocol.__slots__


def test_writing_is_paused_and_drained(loop: asyncio.AbstractEventLoop) -> None:
    """`_paused` says so, `_drain_helper` waits."""
    protocol = BaseProtocol(loop)
    assert not protocol._paused
    protocol.pause_writing()
    assert protocol._paused

    async def drained() -> None:
        protocol.transport = asyncio.Transport()
        loop.call_soon(protocol.resume_writing)
        await asyncio.wait_for(protocol._drain_helper(), 5)

    loop.run_until_complete(drained())
    assert not protocol._paused


def test_the_request_parser_stops_after_a_message(loop: asyncio.AbstractEventLoop) -> None:
    """`max_msg_queue_size=1`, and `message_consumed` lets it go on."""
    parser = request_parser(loop, BaseProtocol(loop))
    raw = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    messages, upgraded, _ = parser.feed_data(raw + raw.replace(b"/a", b"/b"))
    assert [message.path for message, _ in messages] == ["/a"]
    assert not upgraded
    parser.message_consumed()
    messages, _, _ = parser.feed_data(b"")
    assert [message.path for message, _ in messages] == ["/b"]
    message, payload = messages[0]
    assert message.raw_headers == ((b"Host", b"a"),)
    assert payload is streams.EMPTY_PAYLOAD


def test_the_response_parser_gives_a_whole_body_at_once(loop: asyncio.AbstractEventLoop) -> None:
    """`read_nowait(-1)`, `is_eof`, `total_bytes`, and `feed_eof() is None` behind a clean end."""
    protocol = BaseProtocol(loop)
    parser = response_parser(loop, protocol)
    messages, _, _ = parser.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    message, payload = messages[0]
    assert (message.code, message.reason, message.upgrade) == (200, "OK", False)
    assert payload.is_eof()
    assert payload.total_bytes == 2
    assert payload.read_nowait(-1) == b"hi"
    assert payload.at_eof()
    assert parser.feed_eof() is None


def test_a_whole_body_lies_in_pieces(loop: asyncio.AbstractEventLoop) -> None:
    """`StreamReader._buffer` holds all of it, and cleared it leaves the reader at its end."""
    parser = response_parser(loop, BaseProtocol(loop))
    messages, _, _ = parser.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
    parser.feed_data(b"two")
    payload = messages[0][1]
    assert list(payload._buffer) == [b"one", b"two"]
    assert payload._buffer[0] == b"one"
    assert not payload.at_eof()
    payload._buffer.clear()
    assert payload.at_eof()
    assert parser.feed_eof() is None


def test_a_broken_body_keeps_its_exception(loop: asyncio.AbstractEventLoop) -> None:
    """`set_exception` before `feed_eof`, or a reset looks like an end."""
    parser = response_parser(loop, BaseProtocol(loop))
    messages, _, _ = parser.feed_data(b"HTTP/1.1 200 OK\r\n\r\npart")
    payload = messages[0][1]
    payload.set_exception(ConnectionResetError())
    assert isinstance(payload.exception(), ConnectionResetError)
    with pytest.raises(ConnectionResetError):
        payload.read_nowait(-1)


@pytest.mark.parametrize("name", ["BadHttpMessage", "HttpProcessingError", "LineTooLong"])
def test_parsing_raises_what_is_caught(name: str) -> None:
    """One base class for whatever cannot be read."""
    assert issubclass(getattr(http_exceptions, name), http_exceptions.HttpProcessingError)


def test_too_many_fields_are_told_by_text(loop: asyncio.AbstractEventLoop) -> None:
    """The one message that is matched: aiohttp has no class for it (431 instead of 400)."""
    parser = request_parser(loop, BaseProtocol(loop))
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(600))
    with pytest.raises(http_exceptions.BadHttpMessage, match="Too many headers"):
        parser.feed_data(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
