"""Which header fields pass, which are read and which go, in each direction: one table each.

Names are looked up as they came off the wire, so the usual spellings are a single dictionary hit;
any other spelling is classified once and remembered, within bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from sidecar.core.claims import is_claim
from sidecar.core.memo import Memo

MEMO_LIMIT: Final = 1024

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# CGI-style upstreams read every other character as `-`: X_User, X.User (CVE-2025-64484).
_PLAIN: Final = re.compile(rb"[a-z0-9-]+")
_NOT_PLAIN: Final = re.compile(rb"[^a-z0-9-]")


class Fate(IntEnum):
    """What happens to a header field on its way through."""

    PASS = 0  # forwarded as it came
    NOTE = 1  # read by the sidecar, and forwarded as it came
    TAKE = 2  # read by the sidecar, which writes its own in its place or none
    DROP = 3  # removed
    BAD = 4  # no field name at all (RFC 9110 5.1)
    WITHHOLD = 5  # kept back, unless its route lets it pass


# RFC 9110 7.6.1 and RFC 9112 9.1: meaningful for one connection only.
HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade "
    b"http2-settings proxy-authenticate proxy-authorization proxy-authentication-info "
    b"proxy".split()  # `Proxy` is no field at all, but CGI upstreams take it for HTTP_PROXY
)

_REQUEST_NOTED: Final = (
    b"origin referer user-agent accept range purpose sec-purpose x-moz next-router-prefetch rsc "
    b"next-action x-nextjs-data sec-fetch-site sec-fetch-mode sec-fetch-dest sec-fetch-user "
    b"sec-websocket-key x-requested-with access-control-request-method "
    b"access-control-request-headers".split()
)
_REQUEST_TAKEN: Final = (
    b"host cookie authorization connection content-length expect accept-encoding if-match "
    b"if-none-match max-forwards transfer-encoding upgrade via x-request-id traceparent "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port "
    b"x-forwarded-prefix".split()
)

_RESPONSE_TAKEN: Final = (
    b"connection content-type content-length content-encoding set-cookie location "
    b"content-location cache-control vary etag www-authenticate upgrade "
    b"accept-ranges content-md5 digest content-digest repr-digest via x-request-id "
    b"x-content-type-options sec-websocket-accept date content-disposition content-range".split()
)

# What makes up a CORS policy (Fetch 3.2.3), which is the sidecar's to say (T66).
CORS_POLICY: Final = (
    b"access-control-allow-origin access-control-allow-credentials access-control-expose-headers "
    b"access-control-allow-methods access-control-allow-headers access-control-max-age".split()
)

# What of it may stand on pages: fonts and the like for everybody, but nothing that cookies open.
ANONYMOUS_CORS: Final = tuple(
    name for name in CORS_POLICY if name != b"access-control-allow-credentials"
)

_TARGETED: Final = frozenset(b"edge-control surrogate-control x-accel-expires".split())


def is_targeted(name: bytes) -> bool:
    """Whether shared caches of one kind obey a field instead of Cache-Control.

    It must not stand beside private or no-store then. RFC 9213 2.2 lets every CDN name its own, and
    all end alike; the others are of the Edge Architecture Specification, Akamai and nginx. `name`
    is in lower case.
    """
    return name.endswith(b"-cache-control") or name in _TARGETED


class FieldTable:
    """Header name → `Fate`, by exact spelling first and by rule otherwise."""

    __slots__ = ("_client_side", "_known", "memo")

    def __init__(self, known: dict[bytes, Fate], *, client_side: bool) -> None:
        self._known = known
        self._client_side = client_side
        self.memo: dict[bytes, Fate] = {}
        for name, fate in known.items():
            self.memo[name] = self.memo[name.title()] = fate

    def fate(self, name: bytes) -> Fate:
        """Returns what happens to the field called `name`, in whatever case it came."""
        fate = self.memo.get(name)
        if fate is None:
            fate = self._classify(name.lower())
            if len(self.memo) < MEMO_LIMIT and len(name) <= 64:
                self.memo[name] = fate
        return fate

    def _classify(self, lower: bytes) -> Fate:
        fate = self._known.get(lower)
        if fate is not None:
            return fate
        if not _TOKEN.fullmatch(lower):
            return Fate.BAD
        if self._client_side and (not _PLAIN.fullmatch(lower) or is_claim(lower)):
            return Fate.WITHHOLD
        return Fate.PASS if self._client_side or not is_targeted(lower) else Fate.TAKE


def _table(*rows: tuple[frozenset[bytes] | list[bytes], Fate]) -> dict[bytes, Fate]:
    return {name: fate for names, fate in rows for name in names}


REQUEST_FIELDS: Final = FieldTable(
    _table(
        (HOP_BY_HOP, Fate.DROP),
        (_REQUEST_NOTED, Fate.NOTE),
        (_REQUEST_TAKEN, Fate.TAKE),
    ),
    client_side=True,
)
RESPONSE_FIELDS: Final = FieldTable(
    _table(
        (HOP_BY_HOP, Fate.DROP),
        (_RESPONSE_TAKEN, Fate.TAKE),
        (CORS_POLICY, Fate.TAKE),
    ),
    client_side=False,
)


_OWN_FIELDS: Final = frozenset((*HOP_BY_HOP, *_REQUEST_TAKEN))


def is_own_field(name: bytes) -> bool:
    """Whether some upstream may take a request field for one that only the sidecar writes.

    Or for one that is meant for one connection only. `name` is in any case and spelling.
    """
    plain = _NOT_PLAIN.sub(b"-", name.lower())
    return plain in _OWN_FIELDS


def is_request_field(name: bytes) -> bool:
    """Whether a request field, by its name in lower case, is about the request and no user."""
    families = (b"content-", b"sec-", b"access-control-", b"if-", b"accept")
    return name in _REQUEST_NOTED or name.startswith(families)


def head_size(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """The bytes of a header section, with the usual `: ` and line ends."""
    return sum(len(name) + len(value) + 4 for name, value in fields)


_FIELD_VALUE_BYTES: Final = bytes([9, *range(32, 127), *range(128, 256)])


def is_clean_block(block: bytes, lines: int) -> bool:
    """Whether rendered header lines are `lines` lines and hold no control byte (RFC 9110 5.5).

    The one check that keeps a parser's leniency (bare CR or LF, NUL, folded lines) from
    reaching the other side.
    """
    rest = block.translate(None, _FIELD_VALUE_BYTES)
    return len(rest) == 2 * lines and rest == b"\r\n" * lines


def _list_members(value: bytes) -> tuple[bytes, ...]:
    return tuple(part for item in value.lower().split(b",") if (part := item.strip(b" \t")))


list_members: Final = Memo(_list_members, 32).__getitem__
"""Members of a comma-separated value, lower-cased, without empty ones (RFC 9110 5.6.1)."""

MAX_CODINGS: Final = 32  # of an Accept-Encoding value that are looked at


def first_codings(value: bytes) -> list[bytes]:
    """The members of an Accept-Encoding value that are looked at."""
    return value.split(b",", MAX_CODINGS)[:MAX_CODINGS]


def _cut_codings(value: bytes) -> bytes:
    kept = [
        item
        for part in first_codings(value)
        if (item := part.strip(b" \t"))
        and item.split(b";", 1)[0].strip().lower() in (b"gzip", b"x-gzip", b"deflate", b"identity")
    ]
    return b", ".join(kept) or b"identity"


decodable_codings: Final = Memo(_cut_codings, 256).__getitem__
"""Cuts an Accept-Encoding value to what the sidecar can decode (RFC 9110 12.5.3).

`*` and unknown codings go, weights stay; nothing left means `identity`.
"""


_FOR_SHARED_CACHES: Final = frozenset((b"public", b"s-maxage"))
_PRIVATE: Final = b"private"
# A string without an end is taken to the value's end, so that each byte is looked at once: a search
# that gave it up would look for the end of another one at each quotation mark in it.
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*+("?)', re.DOTALL)
_DIRECTIVE: Final = re.compile(rb'(?:"(?:[^"\\]|\\.)*+"?|[^,"])++', re.DOTALL)


def _directives(value: bytes) -> list[tuple[bytes, bytes]]:
    """The name of each directive of a Cache-Control value, in lower case, and its whole text.

    A quoted argument may hold commas, and what looks like other directives (RFC 9111 5.2.2.4).
    """
    texts = (text for part in _DIRECTIVE.findall(value) if (text := part.strip(b" \t")))
    return [(text.partition(b"=")[0].rstrip(b" \t").lower(), text) for text in texts]


def _is_cut_off(value: bytes) -> bool:
    """Whether a quoted string in a value has no end."""
    return not all(_QUOTED.findall(value))


def _at_least_private(value: bytes) -> bytes:
    if _is_cut_off(value):
        return b"no-store"  # a string without an end would take in whatever is added
    left_out = {*_FOR_SHARED_CACHES, _PRIVATE}
    kept = [
        text
        for name, text in _directives(value)
        if name not in left_out or text.lower() == _PRIVATE
    ]
    is_private = any(text.lower() in (_PRIVATE, b"no-store") for text in kept)
    return b", ".join(kept if is_private else [*kept, _PRIVATE])


at_least_private: Final = Memo(_at_least_private, 256).__getitem__
"""A Cache-Control value that no shared cache may store by (RFC 9111 5.2.2).

`public` and `s-maxage` invite shared caches, so they go; `private` is added unless the value
already has it or `no-store`. `private="field"` goes, too: it keeps shared caches from that field
only (5.2.2.7), and of two values a cache may take the first (4.2.1). A value with a quoted string
that does not end becomes `no-store`.
"""


def is_for_everybody(cache_control: bytes) -> bool:
    """Whether a Cache-Control value lets shared caches give an answer to everybody.

    What stands in a string without an end, caches read in ways of their own: it may be anything.
    """
    names = (name for name, _ in _directives(cache_control))
    return _is_cut_off(cache_control) or not _FOR_SHARED_CACHES.isdisjoint(names)


def vary_by(
    value: bytes,
    *,
    cookie: bool,
    origin: bool,
    coding: bool = False,
    is_injected: bool = False,
) -> bytes:
    """A Vary value that names Cookie, Origin and Accept-Encoding as well (RFC 9110 12.5.5).

    `is_injected`: no client's own Authorization is sent on, so it is no reason to vary.
    """
    return _VARY[value, cookie, origin, coding, is_injected]


def _vary_by(key: tuple[bytes, bool, bool, bool, bool]) -> bytes:
    value, cookie, origin, coding, is_injected = key
    members = list_members(value)
    if b"*" in members:
        return value
    if is_injected and b"authorization" in members:
        parts = (part.strip(b" \t") for part in value.split(b","))
        value = b", ".join(part for part in parts if part and part.lower() != b"authorization")
    names = ((b"Cookie", cookie), (b"Origin", origin), (b"Accept-Encoding", coding))
    more = [name for name, is_wanted in names if is_wanted and name.lower() not in members]
    return b", ".join([value, *more] if value else more)


_VARY: Final = Memo(_vary_by, 256, lambda key: len(key[0]))


def _media_type(content_type: bytes) -> bytes:
    return content_type.split(b";", 1)[0].strip(b" \t").lower()


media_type: Final = Memo(_media_type, 256).__getitem__
"""The type/subtype of a Content-Type value, lower-cased, parameters left out."""


# Members of a value whose quoted strings may hold commas (Fetch 2.2.2, "get, decode, and split").
_MEMBER: Final = re.compile(rb'(?:"(?:[^"\\]|\\.)*+"?|[^,"])+', re.DOTALL)
_MIME_TYPE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*(?:;.*)?", re.DOTALL
)
_CHARSET: Final = re.compile(rb';[ \t]*charset=("(?:[^"\\]|\\.)*+"|[^;"\s]+)', re.IGNORECASE)


def _one_content_type(value: bytes) -> bytes:
    counted, essence, charset = value, b"", b""
    for member in _MEMBER.findall(value):
        stripped = member.strip(b" \t")
        valid = _MIME_TYPE.fullmatch(stripped)
        if valid is None or valid[1] == b"*/*":
            continue
        said, counted = _CHARSET.search(stripped), stripped
        if valid[1].lower() != essence:
            essence, charset = valid[1].lower(), b""
        if said is not None:
            charset = said[1]
        elif charset:
            counted += b"; charset=" + charset
    return counted


one_content_type: Final = Memo(_one_content_type, 64).__getitem__
"""The type that counts of a Content-Type value with commas: the last valid one, as in browsers.

(Fetch 2.2.4, "extract a MIME type".) One without a charset has that of the same type before it. The
value stays as it is if no member is a type.
"""
