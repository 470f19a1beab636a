"""aiohttp's C parsers are demanded: its smuggling history is mostly in the Python ones."""

from __future__ import annotations

from aiohttp import http_parser

from sidecar.core.errors import SidecarError


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
