"""Request targets and redirect targets: what is accepted, and the form that policy sees.

Policy and forwarding read the same string: a path that two servers could resolve differently is
refused instead of being repaired (T17).
"""

from __future__ import annotations

import re
from math import inf
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

from sidecar.core.errors import BadRequest

# Characters of RFC 3986 3.3 paths whose meaning no server disputes. Anything else is looked at.
_PLAIN_PATH: Final = re.compile(r"/(?:[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@./-]*)?")
_DOT_SEGMENT: Final = re.compile(r"(?:^|/)\.{1,2}(?=[/;?#\0]|$)")
_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})?")
# A backslash, and overlong UTF-8 (RFC 3629 3), each octet a latin-1 character.
_ODD_SLASH: Final = re.compile(r"\\|\xc0\xaf|\xe0\x80\xaf")
_ODD_DOT: Final = re.compile(r"\xc0\xae|\xe0\x80\xae")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_QUERY: Final = re.compile(r"[^\x00-\x20\x7f#]*")

# What servers make of a path besides (`readings`): parameters of segments, and empty segments.
_PARAMETERS: Final = re.compile(r";[^/]*")
_AUTHORITY: Final = re.compile(r"\A//[^/]+(?=/)")  # at the start, to those that resolve it as a URL
_SLASHES: Final = re.compile(r"/{2,}")
_ODD: Final = re.compile(r"[;%]|//|[^\x00-\x7f]")
_UPPER: Final = re.compile(r"[A-Z]")
PAGE_DATA: Final = "/_next/data/"
"""Where Next.js's Pages Router has the data of its pages, below a base path."""

# The formats in which servers give the content of a page: React Router `/account.data`, static ones
# `/account.html`, Rails `/account.json`.
_FORMAT: Final = re.compile(
    r"(?<=[^/])\.(?:csv|data|html?|json|md|pdf|rsc|txt|xhtml|xml)/*\Z", re.IGNORECASE
)
_DATA_OF: Final = re.compile(rf"(?P<base>.*?){PAGE_DATA}[^/]+(?P<page>/.+)", re.DOTALL)
_DECODED: Final = 2  # times that the laxest server decodes a path

LONGEST_READ: Final = 8192
"""Characters of an odd path up to which all its readings are tried; a longer one is no route's."""
MOST_READ: Final = 65_536
"""The same of all its readings together: real paths have few, and others a hundred."""
MOST_ESCAPES: Final = LONGEST_READ // 3
"""Escapes of a path: with more it is longer than what is read, unless nothing had to be escaped."""
LONGEST_REMEMBERED: Final = 512  # characters; clients choose paths and targets

MAX_LOCAL: Final = 2048  # characters of a redirect target that is handed back
_PATH_END: Final = re.compile(r"[?#]")

# RFC 9110 7.2 and RFC 3986 3.2.2: reg-name, IPv4 or bracketed IPv6, with an optional port.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_LAST_PORT: Final = 65535

_ORIGIN: Final = re.compile(
    rb"([A-Za-z][A-Za-z0-9+.-]{0,15})://(\[[0-9A-Fa-f:.]{2,45}\]|[^][@/?#:\\\s]{1,255})"
    rb"(?::([0-9]{0,5}))?(?=[/?#]|\Z)"
)
_PORTS: Final = {b"http": b"80", b"https": b"443"}


def origin_form(target: str, host: bytes) -> str:
    """The path and query of a target in absolute form (RFC 9112 3.2.2).

    Its authority must be the Host that the request names, else servers would disagree on whom it is
    for. Raises `BadRequest` for anything else.
    """
    url = target.encode("utf-8", "surrogateescape")
    match = _ORIGIN.match(url)
    if match is None or match[1].lower() not in _PORTS:
        raise BadRequest("request target is in neither origin form nor absolute form")
    if _written(match) != normal_origin(match[1] + b"://" + host):
        raise BadRequest("the authority of the request target is not the Host")
    rest = url[match.end() :].decode("utf-8", "surrogateescape")
    return rest if rest.startswith("/") else "/" + rest


def split_target(target: str) -> tuple[str, str, str]:
    """Splits an origin-form request target into path and query (with its `?`), both untouched.

    The third part is the path that routes match. Raises `BadRequest` for any other form and for
    paths that servers read differently.
    """
    path, mark, query = target.partition("?")
    if not path.startswith("/"):
        raise BadRequest("request target is not in origin form")
    if not _QUERY.fullmatch(query):
        raise BadRequest("request target holds a fragment or control character")
    return path, mark + query, normalise(path)


def normalise(path: str) -> str:
    """The path that routes match: unreserved escapes decoded (RFC 3986 6.2.2.2), nothing else.

    Raises `BadRequest` for dot segments in any spelling, encoded twice included, for broken
    escapes or too many, and for backslashes and control characters, raw or encoded.
    """
    if _PLAIN_PATH.fullmatch(path) and "/." not in path:
        return path
    if not path.isprintable() or "\\" in path or "#" in path or " " in path:
        raise BadRequest("path holds a character that no path may hold")
    if path.count("%") > MOST_ESCAPES:
        raise BadRequest("path holds too many percent escapes")
    decoded = _PERCENT.sub(_decode_unreserved, path)
    if _DOT_SEGMENT.search(_as_the_laxest_server(decoded)):
        raise BadRequest("path holds a dot segment")
    return decoded


def _decode_unreserved(match: re.Match[str]) -> str:
    digits = match[1]
    if digits is None:
        raise BadRequest("path holds a broken percent escape")
    char = chr(int(digits, 16))
    if char < " " or char in {"\x7f", "\\"}:
        raise BadRequest("path holds an encoded control character or backslash")
    return char if char in _UNRESERVED else match[0].upper()


def _as_the_laxest_server(decoded: str) -> str:
    """How a server reads the path that decodes escapes twice, overlong ones included."""
    twice = unquote(unquote(decoded, "latin-1"), "latin-1")
    return _ODD_DOT.sub(".", _ODD_SLASH.sub("/", twice))


def is_odd(path: str) -> bool:
    """Whether servers may read a normalised path in more than one way."""
    return _ODD.search(path) is not None


def readings(path: str, *, as_url: bool = True, limit: float = inf) -> frozenset[str]:
    """Returns what servers make of a normalised path, itself included; octets are latin-1.

    A server may decode escapes (once or twice), merge slashes, take `;parameters` off segments
    (RFC 3986 3.3) and take what follows `//` for an authority (RFC 3986 4.2), each of these or
    none, in whatever order. `as_url` is false for paths that are written in a configuration, of
    which nothing is an authority. Returns none if they have more than `limit` characters together.
    """
    first = (path.encode("utf-8", "surrogateescape").decode("latin-1"), 0, as_url)
    found, new, size = {first}, [first], len(path)
    while new:
        if size > limit:
            return frozenset()
        text, decoded, as_url = new.pop()
        made = [
            (_SLASHES.sub("/", text), decoded, as_url),
            (_PARAMETERS.sub("", text), decoded, as_url),
        ]
        if as_url:
            made.append((_AUTHORITY.sub("", text), decoded, False))
        if decoded < _DECODED:
            octets = unquote_to_bytes(text.encode("latin-1"))
            made.append((_ODD_SLASH.sub("/", octets.decode("latin-1")), decoded + 1, as_url))
        for reading in made:
            if reading not in found:
                found.add(reading)
                new.append(reading)
                size += len(reading[0])
    return frozenset(text for text, _, _ in found)


def has_format(path: str) -> bool:
    """Whether a path ends in the name of a format in which servers give pages."""
    return _FORMAT.search(path) is not None


def page_of(reading: str) -> str | None:
    """The page whose content servers may give at a path with the name of a format; else None."""
    bare = _FORMAT.sub("", reading)
    if bare == reading:
        return None
    data = _DATA_OF.fullmatch(bare)
    return bare if data is None else data["base"] + data["page"]


def is_cased(path: str) -> bool:
    """Whether a normalised path has capital letters; those beyond ASCII are odd (`is_odd`)."""
    return _UPPER.search(path) is not None


def folded(reading: str) -> str:
    """What servers make of a reading that do not look at the case of letters; octets are latin-1.

    Express, Caddy and ASP.NET do not, unless they are told to.
    """
    try:
        return reading.encode("latin-1").decode().casefold()
    except UnicodeError:
        return reading.lower()


def is_host(value: str) -> bool:
    """Whether a Host field value has the syntax of one (RFC 9110 7.2); empty does not count.

    A port that no server can have names no host, and servers differ in what they make of it.
    """
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) <= _LAST_PORT


def is_port(value: bytes) -> bool:
    """Whether a field value is the number of a port."""
    return value.isdigit() and len(value) <= 5 and int(value) <= _LAST_PORT


def normal_origin(origin: bytes) -> bytes:
    """An origin as browsers write it (RFC 6454 6.2): in lower case, without the default port.

    What is no origin is returned as it is.
    """
    match = _ORIGIN.fullmatch(origin)
    return origin if match is None else _written(match)


def origin_of(url: bytes) -> bytes:
    """The origin that a URL begins with, in normal form; what begins with none as it is."""
    match = _ORIGIN.match(url)
    return url if match is None else _written(match)


def split_authority(location: str) -> tuple[bytes | None, str]:
    """The authority of an http(s) or scheme-relative reference (RFC 3986 4.2), and the rest.

    In lower case and without its scheme's default port; None where there is none, or none that
    names a host alone.
    """
    is_relative = location.startswith("//")
    url = f"http:{location}" if is_relative else location
    match = _ORIGIN.match(url.encode("latin-1", "replace"))
    if match is None or match[1].lower() not in _PORTS:
        return (b"", location) if is_relative else (None, location)
    return _written(match).partition(b"://")[2], url[match.end() :]


def _written(match: re.Match[bytes]) -> bytes:
    scheme, host, port = match[1].lower(), match[2].lower(), (match[3] or b"").lstrip(b"0")
    if port in (b"", _PORTS.get(scheme)):
        return b"%b://%b" % (scheme, host)
    return b"%b://%b:%b" % (scheme, host, port)


def prefix_key(path: str) -> str:
    """The form in which route prefixes are compared: without the trailing slash."""
    return path.rstrip("/")


_PLAIN_START: Final = re.compile(r"/[A-Za-z0-9_~-][^/]*/")
_ENCODABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
_RAW: Final = re.compile(r"[^!-~]|[\"<>\\^`{|}]")
_LOCAL: Final = re.compile(r"/(?!/|%2[Ff])[A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]-]*")


def is_local_path(value: str) -> bool:
    """Whether a redirect to `value` stays on this origin in every browser (T31 and T32).

    Only path-absolute references made of RFC 3986 characters count: no scheme, no backslash, no
    control character, no `//`, and no slash encoded at the start.
    """
    return _is_place(value) and "//" not in _PATH_END.split(value, maxsplit=1)[0]


def _is_place(value: str) -> bool:
    """Whether a reference is path-absolute and leads to this origin."""
    if len(value) > MAX_LOCAL or not _LOCAL.fullmatch(value):
        return False
    path = _PATH_END.split(value, maxsplit=1)[0]
    try:
        normalise(path)
    except BadRequest:
        return False
    return "//" not in path or _PLAIN_START.match(path) is not None


def local_reference(value: str) -> str | None:
    """A place on this origin in the form that a redirect may have; None for any other place.

    Browsers send some characters of a link as they are that no URI holds (RFC 3986 2): these are
    percent-encoded. A backslash in the path is none of them, as browsers take it for a slash. `//`
    may stand behind a plain segment.
    """
    if len(value) > MAX_LOCAL:  # to encode it makes no text shorter
        return None
    path = _PATH_END.split(value, maxsplit=1)[0]
    if "\\" in path or not _ENCODABLE.fullmatch(value):
        return None
    encoded = _RAW.sub(lambda match: quote(match[0], safe=""), value)
    return encoded if _is_place(encoded) else None
