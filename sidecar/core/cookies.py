"""Cookie text: parse it, join chunks, take names out, write lines that set and expire.

Everything works on the raw header text, a latin-1 `str` with one character per octet: a cookie
that is not a session's passes byte for byte. `http.cookies` re-quotes and merges: not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import unquote

from sidecar.core.attributes import LAX, Attributes, every_attribute, parse_attributes
from sidecar.core.cookie_date import cookie_date
from sidecar.core.record import replace

OWS = " \t"
"""Optional whitespace, RFC 9110 section 5.6.3. `str.strip()` alone would take U+0085 and U+00A0."""

PREFIXES = ("__Host-", "__Secure-", "")
"""Name prefixes (RFC 6265bis section 4.1.3), the one that a sibling domain cannot set first."""

CHUNK_SEPARATORS = (".", "__")
"""What stands between a base name and a chunk's index: Auth.js and iron-session `.`, Auth0 `__`."""

LIBRARY_COOKIES: Mapping[str, str] = {
    "authjs": "authjs.session-token",
    "nextauth": "next-auth.session-token",
    "auth0": "__session",
    "better-auth": "better-auth.account_data",
}
"""The session cookie of each library, by the type of its source and without a prefix."""

MAX_CHUNKS = 50
"""Chunks of one set that are looked at; a browser need not keep more cookies (RFC 6265 6.1)."""

MAX_ROWS = 20
"""Sets of one name that are joined if its chunks are duplicated."""

MOST_JOINED = 3
"""Times a header's own length that these sets have together: to open each costs its whole length,
and one long chunk may stand in all of them."""

MAX_PRESENTED = 180
"""Presented names that a logout expires: browsers keep at most 180 cookies of one site."""

MAX_CLEARED = 30
"""Cookies that the way out of a 431 expires by name: enough to get below any limit again."""

LONGEST_SESSION = 32 * 1024
"""Characters of all cookies that a renewed session is written into. With more, no server would take
its browser's requests any more (431), not even to log out."""

MAX_COOKIES = 1000
"""Cookies of one request; more are refused. Browsers keep 180 of one site at most (Chromium), and
to look into sixty thousand empty ones takes a second."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_COUNTED = re.compile(r"__chunked__([0-9]{1,3})").fullmatch
_CHUNK = re.compile(r"(.+)(?:\.|__)[0-9]+").fullmatch
_MAX_AGE = re.compile(rb"-?[0-9]+").fullmatch  # RFC 6265 section 5.2.2, of any length
_COOKIE_OCTETS = re.compile(r"[!#-+\--:<-\[\]-~]*").fullmatch  # RFC 6265 section 4.1.1
_PERCENT_ENCODED = re.compile(r"(?>(?:[^%]++|%[0-9A-Fa-f]{2})*)").fullmatch
_JS_SPACE = "\t\n\v\f\r \xa0"  # what String.prototype.trim takes off, of latin-1
_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
_LAST_SECOND = 253402300799.0  # of the year 9999


def has_too_many(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a header section holds more than `MAX_COOKIES` cookies, empty ones included."""
    values = [value for name, value in fields if name.lower() == b"cookie"]
    return sum(value.count(b";") + 1 for value in values) > MAX_COOKIES


def first_cookies(header: bytes) -> bytes:
    """The first `MAX_COOKIES` cookies of a Cookie field value."""
    return b";".join(header.split(b";", MAX_COOKIES)[:MAX_COOKIES])


class CookieJar:
    """The cookies of one request, parsed once.

    `pairs` holds (name, value, raw segment) in the order presented, odd segments included: one
    without `=` is a nameless cookie (RFC 6265bis section 5.8.3) and has the name `""`. `numbered`
    are the distinct names that end in a digit, as those of chunks do.
    The repr shows names only, since values are credentials.
    """

    __slots__ = ("_places", "header", "numbered", "pairs")

    def __init__(self, header: str, pairs: tuple[tuple[str, str, str], ...]) -> None:
        self.header = header
        self.pairs = pairs
        self._places: dict[str, list[int]] = {}
        for place, (name, _, _) in enumerate(pairs):
            self._places.setdefault(name, []).append(place)
        self.numbered = tuple(name for name in self._places if name[-1:].isdigit())

    @classmethod
    def parse(cls, header: str) -> CookieJar:
        """Parse a Cookie field value (RFC 6265 section 5.4); several lines are joined by `"; "`.

        Never raises: whatever the text is, it is a sequence of segments between semicolons.
        """
        return cls(header, tuple(map(_parse_pair, header.split(";"))) if header else ())

    def __repr__(self) -> str:
        return f"CookieJar({', '.join(self._places)})"

    def names(self) -> Collection[str]:
        """The distinct names, in the order presented."""
        return self._places.keys()

    def places(self, name: str) -> Sequence[int]:
        """The indexes in `pairs` of exactly this name, in order."""
        return self._places.get(name, ())

    def values(self, name: str) -> Sequence[str]:
        """Every value presented under exactly this name, in order; none gives an empty sequence."""
        return [self.pairs[place][1] for place in self.places(name)]

    def are_read_alike(self, places: Iterable[int]) -> bool:
        """Whether every JavaScript parser finds the cookies at these indexes, with one value."""
        return all(_is_read_alike(self.pairs[place][2]) for place in places)

    def named(self, matcher: NameMatcher) -> frozenset[int]:
        """The indexes in `pairs` of the cookies that `matcher` names.

        Names are compared without any whitespace around them, so that an upstream that trims more
        than RFC 6265 allows does not find a session cookie that was left in.
        """
        matches = matcher.matches
        return frozenset(
            place for place, (name, _, _) in enumerate(self.pairs) if matches(name.strip())
        )

    def without(self, places: Collection[int]) -> str:
        """The header without the pairs at these indexes, all others byte for byte."""
        kept = [raw for at, (_, _, raw) in enumerate(self.pairs) if at not in places]
        if len(kept) == len(self.pairs):
            return self.header
        return ";".join(kept).lstrip(OWS) if any(map(str.strip, kept)) else ""


def _parse_pair(raw: str) -> tuple[str, str, str]:
    name, equals, value = raw.partition("=")
    if not equals:
        name, value = "", name
    return name.strip(OWS), value.strip(OWS), raw


def _is_read_alike(raw: str) -> bool:
    """Whether npm `cookie` and the `@edge-runtime/cookies` of Next.js agree about a cookie.

    Of white space about a name the latter takes off spaces before it. Half a pair of quotation
    marks is a character of the value to it, and with broken percent-encoding there is no cookie.
    """
    name, _, value = raw.partition("=")
    value = value.strip(_JS_SPACE)
    return (
        name.lstrip(" ") == name.strip(_JS_SPACE)
        and (value[:1] != '"' or (len(value) > 1 and value[-1] == '"'))
        and _percent_decoded(value) is not None
    )


class NameMatcher:
    """Says whether a cookie name belongs to a session: base name or chunk, under each prefix.

    Compiled once from base names, which may themselves be written with a prefix. Names are
    case-sensitive and matched whole: `app` never matches `app-other`, `app.x` or `application`.
    What begins with one of `stems`, under each prefix, matches whatever follows: some libraries
    read their session from every cookie whose name begins with its name.
    """

    __slots__ = ("_exact", "_is_chunk", "_stems")

    def __init__(self, base_names: Iterable[str], stems: Iterable[str] = ()) -> None:
        bases = unprefixed(base_names)
        self._stems = tuple(prefix + stem for stem in unprefixed(stems) for prefix in PREFIXES)
        self._exact = frozenset(prefix + base for base in bases for prefix in PREFIXES)
        names, separators = _any_of(self._exact), _any_of(CHUNK_SEPARATORS)
        self._is_chunk = re.compile(rf"(?:{names})(?:{separators})[0-9]+").fullmatch

    def matches(self, name: str) -> bool:
        """Whether `name` is one of the session's cookies."""
        return (
            name in self._exact
            or (name[-1:].isdigit() and self._is_chunk(name) is not None)
            or name.startswith(self._stems)
        )


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(texts))) or r"(?!)"


def unprefixed(names: Iterable[str]) -> tuple[str, ...]:
    """The names without `__Host-` or `__Secure-`, each once, in the order given."""
    return tuple(dict.fromkeys(name.removeprefix(prefix_of(name)) for name in names))


def base_of(name: str, bases: Container[str]) -> str:
    """The base name that a cookie's name is of, without its prefix and a chunk's suffix.

    If that is none of `bases`, the name without its prefix.
    """
    bare = name.removeprefix(prefix_of(name))
    if bare in bases:
        return bare
    chunk = _CHUNK(bare)
    return chunk[1] if chunk is not None and chunk[1] in bases else bare


def prefix_of(name: str) -> str:
    """The prefix that `name` carries, `""` where it has none."""
    return next(prefix for prefix in PREFIXES if name.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunk cookies presented for one name.

    `names` are theirs, in order of index. `joined` holds the values to try: none unless the set
    is whole (indexes 0 … n-1); several where cookies are duplicated, the n-th of each together.
    `places` are the indexes in the jar's `pairs` that each of them was joined from.
    """

    names: tuple[str, ...]
    joined: tuple[str, ...] = ()
    places: tuple[tuple[int, ...], ...] = field(default=(), compare=False)

    def values(self) -> Iterator[tuple[str | None, tuple[int, ...]]]:
        """Each value that is not empty, with its places; None alone if the set is not whole."""
        if not self.joined:
            yield None, ()
        for value, places in zip(self.joined, self.places, strict=True):
            if value:
                yield value, places


def as_it_came(value: str) -> str:
    """The value without any decoding."""
    return value


def decoded(value: str) -> str:
    """A cookie value as the JavaScript libraries read it (npm `cookie`).

    White space and double quotes around it are taken off and percent-encoding is undone. What is
    not valid percent-encoding or not UTF-8 stays as it came.
    """
    value = value.strip(_JS_SPACE)
    if value[:1] == '"':
        value = value[1:-1]
    undone = _percent_decoded(value)
    return value if undone is None else undone


def _percent_decoded(value: str) -> str | None:
    """The value without percent-encoding, as UTF-8; None if that is broken."""
    if "%" not in value:
        return value
    if not _PERCENT_ENCODED(value):
        return None
    try:
        return unquote(value, "utf-8", "strict").encode("utf-8").decode("latin-1")
    except UnicodeError:
        return None


def collect_chunks(
    jar: CookieJar, name: str, separator: str, read: Callable[[str], str] = as_it_came
) -> Chunks | None:
    """The chunks `name<separator>0`, `…1`, … in `jar`, or None where there is not one.

    `read` decodes each value. Any other index made of digits (a gap, `01`, `99999`) spoils the set,
    as do more than `MAX_CHUNKS`: pieces of two sessions are never taken for one.
    """
    stem = name + separator
    if not jar.numbered:
        return None
    presented = {n for n in jar.numbered if n.startswith(stem) and _is_index(n[len(stem) :])}
    if not presented:
        return None
    names = tuple(f"{stem}{index}" for index in range(min(len(presented), MAX_CHUNKS + 1)))
    if len(names) > MAX_CHUNKS or not presented.issuperset(names):
        return Chunks(tuple(sorted(presented)))
    rows = tuple(_rows(jar, names))
    joined = ("".join(read(jar.pairs[place][1]) for place in row) for row in rows)
    return Chunks(names, tuple(joined), rows)


def collect_counted(
    jar: CookieJar, name: str, read: Callable[[str], str] = as_it_came
) -> Chunks | None:
    """The chunks of a cookie whose value is their number, as h3 writes it: `name=__chunked__2` with
    `name.1` and `name.2`. None where it is not such a cookie.
    """
    count = _COUNTED(read(jar.pairs[jar.places(name)[-1]][1])) if jar.places(name) else None
    if count is None:
        return None
    names = tuple(f"{name}.{index}" for index in range(1, int(count[1]) + 1))
    if not 0 < len(names) <= MAX_CHUNKS or not all(map(jar.places, names)):
        return Chunks((name,))
    rows = tuple(_rows(jar, names))
    joined = tuple("".join(read(jar.pairs[place][1]) for place in row) for row in rows)
    heads = tuple(jar.places(name))
    return Chunks((name, *names), joined, tuple((*heads, *row) for row in rows))


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _rows(jar: CookieJar, names: Iterable[str]) -> Iterator[tuple[int, ...]]:
    """One row per duplicate. A browser sends the cookies of one domain and path together, so the
    n-th of every name belong together; a name with fewer lends its last.
    """
    columns = [jar.places(name) for name in names]
    room = MOST_JOINED * len(jar.header)
    for row in range(min(max(map(len, columns)), MAX_ROWS)):
        found = tuple(places[min(row, len(places) - 1)] for places in columns)
        room -= sum(len(jar.pairs[place][1]) for place in found)
        if room < 0:
            return
        yield found


def everywhere(header: bytes, domains: Sequence[str]) -> list[bytes]:
    """Set-Cookie field values that expire what a Cookie header holds, on this host and `domains`.

    Only the largest cookies, `MAX_CLEARED` of them; names that could not be written by a server
    are left out, so no client text but a token reaches a header. Browsers ignore the lines for
    domains that are public suffixes.
    """
    pairs = CookieJar.parse(header.decode("latin-1")).pairs
    by_size = sorted(pairs, key=lambda pair: len(pair[2]), reverse=True)
    names = dict.fromkeys(name for name, _, _ in by_size if _TOKEN(name))
    return [
        gone_line(name, Attributes(domain=domain))
        for name in list(names)[:MAX_CLEARED]
        for domain in ("", *domains)
    ]


def parent_domains(host: str) -> tuple[str, ...]:
    """A host name and the domains above it that may have cookies; none of an IP address."""
    labels = host.split(".")
    if labels[-1].isdigit() or ":" in host:
        return ()
    return tuple(".".join(labels[at:]) for at in range(len(labels) - 1))


def set_line(name: str, value: str, attributes: Attributes, expires_at: float | None) -> bytes:
    """A Set-Cookie field value; `expires_at` is Unix time, None for a browser session's cookie.

    Raises `ValueError` for a value that no cookie may hold: it would end up in the header's lines.
    """
    if not is_cookie_value(value):
        raise ValueError("a cookie cannot hold this value")
    dates = [] if expires_at is None else [f"Expires={_date(expires_at)}"]
    return _line(name, value, attributes, dates)


def _date(at: float) -> str:
    """The date of a Unix time (RFC 9110 5.6.7), whose year has four digits.

    Applications may seal a time in milliseconds, which in seconds lies in the year 59000.
    """
    return formatdate(min(max(at, 0.0), _LAST_SECOND), usegmt=True)


def gone_line(name: str, attributes: Attributes, *, dated: bool = True) -> bytes:
    """A Set-Cookie field value that takes one cookie away from where `set_line` sets it.

    `dated`: also for clients that do not know Max-Age.
    """
    return _line(name, "", attributes, ["Max-Age=0", *([f"Expires={_EPOCH}"] if dated else [])])


def _line(name: str, value: str, attributes: Attributes, dates: Sequence[str]) -> bytes:
    """Names with a prefix are Secure, and of this host's every path where the prefix says so."""
    prefix = prefix_of(name)
    if prefix == "__Host-":
        attributes = replace(attributes, domain="", path="/")
    parts = [f"{name}={value}", f"Path={attributes.path}"]
    if attributes.domain:
        parts.append(f"Domain={attributes.domain}")
    parts += dates
    if attributes.http_only:
        parts.append("HttpOnly")
    parts.append(f"SameSite={attributes.same_site or LAX}")
    if attributes.secure or prefix:
        parts.append("Secure")
    if attributes.partitioned:
        parts.append("Partitioned")
    return "; ".join(parts).encode("latin-1")


def is_cookie_value(text: str) -> bool:
    """Whether a cookie may hold this text (RFC 6265 section 4.1.1, `cookie-octet`)."""
    return _COOKIE_OCTETS(text) is not None


def chunked_lines(
    name: str,
    value: str,
    presented: Sequence[str],
    attributes: Attributes,
    *,
    separator: str,
    size: int,
    expires_at: float | None,
) -> list[bytes]:
    """Set-Cookie field values for a value that may need several cookies, as the libraries write.

    Up to `size` characters are one cookie, more are chunks of that size. What was `presented` of
    the same session and is not written again is taken away first.
    """
    if len(value) <= size:
        pieces = {name: value}
    else:
        parts = range(0, len(value), size)
        pieces = {f"{name}{separator}{n}": value[at : at + size] for n, at in enumerate(parts)}
    stale = [gone_line(one, attributes) for one in presented if one not in pieces]
    return [*stale, *(set_line(one, part, attributes, expires_at) for one, part in pieces.items())]


def value_size(set_cookie: bytes) -> int:
    """The bytes that a cookie will take in a Cookie header, 0 for one that is emptied."""
    pair = set_cookie.partition(b";")[0]
    return 0 if pair.endswith(b"=") else len(pair)


def set_cookie_name(value: bytes) -> str:
    """The name under which a browser presents the cookie that a Set-Cookie field value sets.

    A nameless `=name=x` comes back as `name=x` (RFC 6265bis section 5.8.3), so leading `=` do not
    hide a session's name.
    """
    pair = value.partition(b";")[0].lstrip(b" \t=")
    name, equals, _ = pair.partition(b"=")
    return name.strip(b" \t").decode("latin-1") if equals else ""


def with_set_cookies(header: str, values: Iterable[bytes], now: float) -> str:
    """The Cookie field value that a browser presents after an answer with these Set-Cookie values.

    `now` is Unix time in seconds. Domain and Path are left out of account: what is set is taken to
    come back, and what is expired to be gone.
    """
    latest: dict[str, str | None] = {}  # by name what comes back, None if it is gone
    for value in values:
        name = set_cookie_name(value)
        latest.pop(name, None)  # the one that was set last comes last
        pair = value.partition(b";")[0].lstrip(b" \t=").decode("latin-1")
        # RFC 6265 section 4.2.1 joins by "; ".
        latest[name] = None if is_expiring(value, now) else f" {pair}"
    kept = [raw for name, _, raw in CookieJar.parse(header).pairs if name not in latest]
    set_anew = (pair for pair in latest.values() if pair is not None)
    return ";".join(dict.fromkeys((*kept, *set_anew))).lstrip(OWS)


def takes_away(
    set_cookie: bytes, now: float, domains: Collection[str], paths: Collection[str]
) -> bool:
    """Whether a Set-Cookie value takes away a cookie that was set on one of these places.

    Its own host always is one; a cookie of another Domain or Path is another cookie (RFC 6265 5.3
    step 11). An empty value takes away as well: some servers write that, and nothing is left.
    """
    attributes = parse_attributes(set_cookie)
    domain = attributes.get(b"domain", b"").lstrip(b".").decode("latin-1").lower()
    path = attributes.get(b"path", b"/").decode("latin-1")
    if (domain and domain not in domains) or path not in ("/", *paths):
        return False
    value = set_cookie.partition(b";")[0].lstrip(b" \t=").partition(b"=")[2].strip()
    return value in (b"", b'""') or is_expiring(set_cookie, now)


def is_expiring(set_cookie: bytes, now: float) -> bool:
    """Whether a Set-Cookie value takes its cookie away (RFC 6265 5.3, step 3: Max-Age first).

    Of each the last counts that browsers understand (RFC 6265 5.2.1, 5.2.2). `now` is Unix time in
    seconds.
    """
    age, end = None, None
    for name, value in every_attribute(set_cookie):
        if name == b"max-age" and _MAX_AGE(value):
            age = value
        elif name == b"expires" and (date := cookie_date(value)) is not None:
            end = date
    if age is not None:
        return age.startswith(b"-") or not age.strip(b"0")
    return end is not None and end <= now
