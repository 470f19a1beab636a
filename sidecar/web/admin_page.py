"""The files of the admin page, as they are in the package; no other server is asked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

FILES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "/": ("index.html", "text/html"),
        "/main.js": ("main.js", "text/javascript"),
        "/panels.js": ("panels.js", "text/javascript"),
        "/charts.js": ("charts.js", "text/javascript"),
        "/format.js": ("format.js", "text/javascript"),
        "/style.css": ("style.css", "text/css"),
        "/icon.svg": ("icon.svg", "image/svg+xml"),
    }
)
"""The file and its media type, by path."""

SECURITY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
"""Header fields of everything that the page consists of."""


@cache
def content(path: str) -> bytes:
    """What is served at one of the paths of `FILES`. Read once, when it is asked for first."""
    name, _ = FILES[path]
    return files(__package__).joinpath("admin_assets", name).read_bytes()
