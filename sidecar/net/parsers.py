"""aiohttp's C parsers are demanded: its smuggling history is mostly in the Python ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import http_parser

from sidecar.core.errors import SidecarError

if TYPE_CHECKING:
    from aiohttp.base_protocol import BaseProtocol

BODY_WINDOW: Final = 65536  # bytes held between two reads of a body before reading pauses
MAX_FIELDS: Final = 512


class ParserMissing(SidecarError):
    """aiohttp was built without its C extensions, or they were switched off."""


def require_c_parsers() -> None:
    """Raises `ParserMissing` unless requests and responses are read by the C parsers.

    `HttpRequestParserPy` and `HttpResponseParserPy` are the pure-Python ones that aiohttp falls
    back on without a word.
    """
    if (
        http_parser.HttpRequestParser is http_parser.HttpRequestParserPy
        or http_parser.HttpResponseParser is http_parser.HttpResponseParserPy
    ):
        raise ParserMissing(
            "aiohttp's C extensions are missing: install its binary wheel, and unset "
            "AIOHTTP_NO_EXTENSIONS"
        )


def response_parser(
    protocol: BaseProtocol, loop: asyncio.AbstractEventLoop, limit: int, *, has_body: bool
) -> http_parser.HttpResponseParser:
    """A parser of one response, whose head may have `limit` bytes. `has_body`: not of HEAD."""
    return http_parser.HttpResponseParser(
        protocol,
        loop,
        BODY_WINDOW,
        max_line_size=limit,
        max_field_size=limit,
        max_headers=MAX_FIELDS,
        response_with_body=has_body,
        read_until_eof=True,
        auto_decompress=False,
    )
