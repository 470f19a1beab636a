"""Every difference that is known, with the rule behind it: what docs/differences.md shows."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from tests.differential.servers import HAPROXY, INJECTING, NGINX, PLAIN

REFUSED, FORWARDED = "R", "F"
_LETTERS: Final = MappingProxyType({PLAIN: 0, INJECTING: 0, NGINX: 1, HAPROXY: 2})


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of requests with one of these oddities.

    `fates` has a letter for the sidecar, nginx and HAProxy. `together` are oddities that count only
    if the other ones are there as well.
    """

    fates: str
    tags: tuple[str, ...]
    why: str = ""
    source: str = ""
    together: tuple[str, ...] = ()

    def fate(self, name: str) -> str:
        return self.fates[_LETTERS[name]]


RULES: Final = (
    Rule(
        "RFF",
        ("method FOO", "method of 40 characters"),
        "A method that is in no registry is refused: who guards by the method must know it.",
        "RFC 9110 9.1 and 16.1",
    ),
    Rule("RRF", ("method get",), "Methods are case-sensitive, and `get` is none.", "RFC 9110 9.1"),
    Rule(
        "RRF",
        ("method TRACE",),
        "TRACE would show its sender what the proxy has added, such as the token.",
        "RFC 9110 9.3.8",
    ),
    Rule(
        "RFR",
        ("method PRI",),
        "PRI begins HTTP/2, which is not spoken here.",
        "RFC 9113 3.4",
    ),
    Rule("RRR", ("method CONNECT", "method with a character that no token has")),
    Rule(
        "RRF",
        ("method CONNECT",),
        "CONNECT would make a tunnel to a place of the client's choice.",
        "RFC 9110 9.3.6",
        together=("authority form",),
    ),
    Rule(
        "RFF",
        (
            *("dot segment", "single dot segment", "dot segment at the end", "escaped dot segment"),
            *("dot segment, escaped twice", "dot segment behind an escaped slash"),
            *("dot segment with a parameter", "backslash", "escaped backslash"),
        ),
        "Servers resolve these paths differently. Routing and gates use the path that is sent.",
        "RFC 3986 5.2.4 and 6.2.2.3, T17",
    ),
    Rule(
        "RRF",
        ("dot segment above the root", "broken escape", "escaped NUL"),
        "The path is no path, or leads out of it.",
        "RFC 3986 2.1 and 5.2.4",
    ),
    Rule(
        "RFF",
        ("escaped line break",),
        "What decodes the path must not get a control character from it.",
        "RFC 3986 7.3, T17",
    ),
    Rule(
        "RFR",
        ("fragment", "octets beyond ASCII", "octets beyond ASCII in the query"),
        "A target is an absolute path and a query, in ASCII.",
        "RFC 9112 3.2.1, RFC 3986 2 and 3.3",
    ),
    Rule(
        "RFR",
        ("absolute form of another host",),
        "The authority of the target and Host must be alike: servers differ in which one counts.",
        "RFC 9112 3.2.2",
    ),
    Rule("RFF", ("absolute form of another scheme",), "Only http is proxied.", "RFC 9110 4.2"),
    Rule(
        "RRF",
        ("asterisk form", "asterisk form of OPTIONS"),
        "`*` asks about the server itself, and no upstream is the whole server.",
        "RFC 9112 3.2.4",
    ),
    Rule(
        "FRF",
        ("target of 9,000 characters", "field of 9,000 bytes"),
        "A head may have `limits.header` bytes (64 KiB). nginx takes lines of 8 KiB by default.",
        "RFC 9110 4.1 and 5.4",
    ),
    Rule(
        "FFR",
        ("150 fields",),
        "A head may have 512 fields. HAProxy takes 101 by default.",
        "RFC 9110 5.4",
    ),
    Rule(
        "RRR",
        (
            *("space in the target", "control character in the target", "tab in the target"),
            *("NUL in the target", "absolute form with user information", "authority form"),
            "relative path",
        ),
    ),
    Rule(
        "RRF",
        ("authority form",),
        "Only CONNECT has a target in this form.",
        "RFC 9112 3.2.3",
        together=("method CONNECT", "no Host"),
    ),
    Rule(
        "RRF",
        ("absolute form with user information",),
        "A request in HTTP/1.1 has a Host, and an http URI no user information.",
        "RFC 9112 3.2.2, RFC 9110 4.2.4",
        together=("no Host",),
    ),
    Rule(
        "RFF",
        ("absolute form of another host",),
        "A request in HTTP/1.1 has a Host, whatever its target says.",
        "RFC 9112 3.2.2",
        together=("no Host",),
    ),
    Rule(
        "RRF", ("HTTP/2.0", "HTTP/0.9 with fields"), "The major version must be 1.", "RFC 9110 2.5"
    ),
    Rule("RFR", ("HTTP/1.10",), "A version has one digit on each side of the dot.", "RFC 9112 2.3"),
    Rule(
        "RFR",
        ("space behind the version",),
        "The request line ends with the version.",
        "RFC 9112 3",
    ),
    Rule(
        "RRF",
        ("tabs in the request line",),
        "Its parts are separated by a space. Other white space is read differently by servers.",
        "RFC 9112 3",
    ),
    Rule(
        "RFR",
        ("request line without a version",),
        "This is HTTP/0.9, which is no longer HTTP.",
        "RFC 9112 1.1 and 3",
    ),
    Rule(
        "RRR",
        (
            *("HTTP/01.1", "version in lower case", "version of another protocol"),
            "space before the request line",
        ),
    ),
    Rule(
        "RFF",
        ("line ends without CR", "one line end without CR"),
        "A line ends with CRLF. A recipient may take a bare LF for a line end, so servers differ.",
        "RFC 9112 2.2",
    ),
    Rule(
        "RFF",
        ("control character in a value", "DEL in a value"),
        "A value has no control character.",
        "RFC 9110 5.5",
    ),
    Rule("RRF", ("NUL in a value",), "A value has no NUL.", "RFC 9110 5.5"),
    Rule(
        "RRF",
        (
            "folded line",
            "Host on a folded line",
            "Content-Length on a folded line",
            "Transfer-Encoding on a folded line",
        ),
        "A folded line must be refused or unfolded. Who does neither reads another field.",
        "RFC 9112 5.2",
    ),
    Rule(
        "RFR",
        (
            "line without a colon",
            "character in a name that no token has",
            "octets beyond ASCII in a name",
        ),
        "The line is no field. nginx leaves it out instead.",
        "RFC 9110 5.1, RFC 9112 5",
    ),
    Rule(
        "RRR",
        (
            *("CR in a value", "space before the colon", "empty name", "space in a name"),
            *("NUL in a name", "Host with a space before the colon"),
            "space before the colon of Content-Length",
            "space before the colon of Transfer-Encoding",
        ),
    ),
    Rule(
        "RRF",
        ("no Host", "the same Host twice"),
        "A request in HTTP/1.1 has exactly one Host.",
        "RFC 9112 3.2",
    ),
    Rule(
        "FFF",
        ("no Host",),
        "A request in HTTP/1.0 needs no Host.",
        "RFC 9112 3.2",
        together=(
            "HTTP/1.0",
            "HTTP/1.0 with keep-alive",
            "chunked in HTTP/1.0",
            "Expect in HTTP/1.0",
        ),
    ),
    Rule(
        "RRF",
        ("empty Host", "Host with a space", "Host with a path", "Host with a comma"),
        "Host is a host name with a port, and an http URI has no empty one.",
        "RFC 9110 4.2.1 and 7.2",
    ),
    Rule(
        "RFF",
        (
            "Host with a port that is no number",
            "Host with a port above 65535",
            "Host with user information",
            "Host with octets beyond ASCII",
        ),
        "Host is a host name with a port, and nothing else.",
        "RFC 9110 7.2, RFC 3986 3.2.2",
    ),
    Rule("RRR", ("two Host fields",)),
    Rule(
        "RRF",
        ("the same Content-Length twice", "Content-Length as a list of the same"),
        "The recipient may refuse repeated values, and the next server may not understand them.",
        "RFC 9112 6.3",
    ),
    Rule(
        "RRF",
        ("Content-Length beside chunked", "Content-Length behind chunked"),
        "Both framings at once may be an attempt to smuggle a request.",
        "RFC 9112 6.3",
    ),
    Rule(
        "RRF",
        ("chunked in HTTP/1.0",),
        "HTTP/1.0 has no Transfer-Encoding: the framing is taken for faulty.",
        "RFC 9112 6.1",
    ),
    Rule(
        "RRF",
        ("chunked with a comma at its end",),
        "The value must be `chunked`, in the one spelling that no server reads otherwise.",
        "RFC 9110 5.6.1.2, RFC 9112 6.1",
    ),
    Rule(
        "FRF",
        ("tab before chunked",),
        "A tab before a value is optional white space.",
        "RFC 9110 5.6.3",
    ),
    Rule(
        "RRR",
        (
            *("two Content-Length", "Content-Length as a list", "Content-Length with a sign"),
            *("negative Content-Length", "hexadecimal Content-Length", "empty Content-Length"),
            *("Content-Length with a space within", "Content-Length above 64 bits"),
            *("Content-Length that is no number", "Transfer-Encoding twice", "chunked, chunked"),
            *("gzip, chunked", "chunked, gzip", "gzip alone", "Transfer-Encoding: identity"),
            *("Transfer-Encoding: xchunked", "chunked with a parameter", "chunked in quotes"),
            *("chunked with an empty member", "chunked with a control character"),
            "empty Transfer-Encoding",
        ),
    ),
    Rule(
        "RFF",
        (
            "chunk size with a bare line feed",
            "chunk data with a bare line feed",
            "last line of chunks with a bare line feed",
        ),
        "Lines of the chunked coding end with CRLF.",
        "RFC 9112 2.2 and 7.1",
    ),
    Rule(
        "RFF",
        ("chunk size with a space", "chunk extension with a space", "empty chunk extension"),
        "A chunk size is followed by CRLF or by `;` and a name. White space there is bad, and was "
        "used to smuggle.",
        "RFC 9112 7.1.1",
    ),
    Rule(
        "RFF",
        ("trailer with framing", "folded trailer"),
        "A trailer must not frame, and has no folded lines.",
        "RFC 9110 6.5.1, RFC 9112 5.2",
    ),
    Rule(
        "RFR",
        ("trailer without a colon", "trailer that looks like a request"),
        "The line is no field.",
        "RFC 9112 5 and 7.1.2",
    ),
    Rule(
        "RRR",
        (
            *("chunk extension with a line feed", "chunk extension with a CR", "empty chunk size"),
            *("chunk size with a space before", "chunk size with a sign", "chunk size with 0x"),
            *("chunk size that is no number", "chunk size above 64 bits", "chunk without an end"),
            "chunk that is too long",
        ),
    ),
    Rule(
        "RFF",
        ("another Expect",),
        "An expectation that is not known is answered with 417.",
        "RFC 9110 10.1.1",
    ),
    Rule(
        "RFF",
        ("Max-Forwards: 0 of OPTIONS",),
        "The last proxy answers itself.",
        "RFC 9110 7.6.2",
    ),
    Rule(
        "FFR",
        ("body of GET, HEAD or DELETE in HTTP/1.0",),
        "A body of GET has no meaning, but it is framed. HAProxy takes none in HTTP/1.0.",
        "RFC 9110 9.3.1, RFC 9112 6.3",
    ),
    Rule(
        "FFR",
        ("WebSocket handshake without a key",),
        "The upstream judges its handshakes; a tunnel opens only behind a valid 101.",
        "RFC 6455 4.2.1 and 4.1",
    ),
    Rule(
        "RFF",
        ("Content-Type twice",),
        "Content-Type is no list, and servers would differ about which one counts.",
        "RFC 9110 5.3 and 8.3",
    ),
    Rule(
        "RRF",
        ("Authorization twice",),
        "Authorization is no list. On a route that injects, both are removed.",
        "RFC 9110 5.3 and 11.6.2",
    ),
    Rule(
        "FRF",
        ("If-Match",),
        "If-None-Match is a list, which may stand on several lines. nginx takes one.",
        "RFC 9110 5.3 and 13.1.2",
    ),
)
"""Oddities that are in none of these are forwarded by all three."""

INJECTED: Final = (
    Rule("FRF", ("Authorization twice",)),
    Rule(
        "RFF",
        ("Origin of another site",),
        "A request that acts with a session's cookie needs a trusted origin.",
        "T34",
        together=("session cookie",),
    ),
)
"""What becomes of requests on an injecting route instead."""


@dataclass(frozen=True, slots=True)
class Change:
    """A difference in what the upstream sees: `keys` are patterns of differences.

    `others` are the proxies that it is a difference to; `tags`, if given, the oddities one of which
    must be there.
    """

    keys: tuple[str, ...]
    why: str
    source: str
    others: tuple[str, ...] = (NGINX, HAPROXY)
    tags: tuple[str, ...] = ()

    def explains(self, key: str, other: str, tags: frozenset[str]) -> bool:
        return (
            other in self.others
            and (not self.tags or not tags.isdisjoint(self.tags))
            and any(fnmatchcase(key, one) for one in self.keys)
        )


CHANGES: Final = (
    Change(
        ("via: *", "x-request-id: *"),
        "A proxy adds itself to Via; the request is known by its X-Request-Id in every log.",
        "RFC 9110 7.6.3",
    ),
    Change(
        ("x-forwarded-for: *", "x-forwarded-proto: *", "x-forwarded-host: *"),
        "They are written anew, whatever a client says. The others pass on what it says, unless "
        "configured to write their own.",
        "RFC 7239 8.1, T3",
    ),
    Change(
        (
            "forwarded: missing",
            "x-real-ip: missing",
            "x-original-url: missing",
            "x-rewrite-url: missing",
            "x-user: missing",
            "x-auth-request-email: missing",
            "x-http-method-override: missing",
            "proxy: missing",
        ),
        "Fields that only a proxy may set are removed ([the list](headers.md)). `Proxy` makes CGI "
        "programs use a proxy of the client's choice.",
        "T2, T3, RFC 3875 4.1.18",
    ),
    Change(
        (
            "connection: *",
            "keep-alive: missing",
            "proxy-connection: missing",
            "te: missing",
            "trailer: missing",
            "upgrade: missing",
            "http2-settings: missing",
            "proxy-authorization: missing",
            "x-hop: missing",
        ),
        "Fields of one connection, and those that Connection names, go no further. nginx and "
        "HAProxy pass some of them on.",
        "RFC 9110 7.6.1 and 11.7.2, RFC 9113 3.1",
    ),
    Change(
        ("x_a: missing", "x.a: missing", "x!#$%&'[*]+^`|~: missing", "transfer_encoding: missing"),
        "A name has letters, digits and `-`: CGI-like upstreams read `X_A` and `X.A` as `X-A`.",
        "RFC 3875 4.1.18, T2",
    ),
    Change(
        ("framing",),
        "A body is framed anew. One of which the end is here has a length, a longer chunked one "
        "stays chunked. nginx waits for the end of each body, HAProxy passes chunks on.",
        "RFC 9112 6 and 7",
    ),
    Change(
        ("trailers",),
        "Trailers are left out, as an intermediary may. HAProxy passes on fields that only a head "
        "may have.",
        "RFC 9110 6.5.1, RFC 9112 7.1.2",
        others=(HAPROXY,),
    ),
    Change(
        ("expect: missing",),
        "The sidecar invites the body itself, so that no upstream that is silent holds it up.",
        "RFC 9110 10.1.1",
        others=(HAPROXY,),
    ),
    Change(
        ("cookie: other", "accept-encoding: other", "if-none-match: other"),
        "Lines of one list are joined; the lines of Cookie by `; `.",
        "RFC 9110 5.3, RFC 6265 5.4",
    ),
    Change(
        ("traceparent: missing",),
        "A malformed traceparent is left out.",
        "Trace Context 4.3",
        tags=("malformed traceparent",),
    ),
    Change(
        ("target",),
        "A server is sent the origin form, since some take nothing else.",
        "RFC 9112 3.2.1 and 3.2.2",
        others=(HAPROXY,),
        tags=("absolute form", "absolute form with an empty path", "absolute form of https"),
    ),
    Change(
        ("version",),
        "A proxy says its own version, HTTP/1.1. HAProxy repeats that of the client.",
        "RFC 9110 2.5 and 7.6.3",
        others=(HAPROXY,),
    ),
    Change(
        ("content-length: other",),
        "The length is written anew, without leading zeros.",
        "RFC 9110 8.6",
        tags=("Content-Length with leading zeros",),
    ),
    Change(
        ("max-forwards: other",),
        "Each proxy takes one off that of OPTIONS.",
        "RFC 9110 7.6.2",
        tags=("Max-Forwards",),
    ),
    Change(
        ("transfer-encoding: other",),
        "The coding is written as the standard writes it.",
        "RFC 9112 7",
        (HAPROXY,),
        ("chunked, in upper case",),
    ),
    Change(
        ("host: added",),
        "A request in HTTP/1.1 has a Host, and an empty one if nobody knows it.",
        "RFC 9112 3.2",
        tags=("no Host",),
    ),
)

CHANGES_BY_INJECTION: Final = (
    Change(("host: other",), "An api route names its upstream.", "RFC 9112 3.2", (PLAIN,)),
    Change(("x-request-id: other",), "Each request has its own.", "", (PLAIN,)),
    Change(
        ("authorization: added", "authorization: other", "authorization: missing"),
        "The session's token takes the place of what a client says.",
        "T1",
        (PLAIN,),
    ),
    Change(
        ("cookie: other", "cookie: missing"),
        "Session cookies are removed, all others stay.",
        "T7",
        (PLAIN,),
        ("session cookie",),
    ),
    Change(
        ("accept-encoding: other",),
        "What is wrapped must be decoded first.",
        "RFC 9110 12.5.3",
        (PLAIN,),
    ),
    Change(
        ("if-match: other",),
        "An envelope's entity tag is weak, its resource's was not.",
        "RFC 9110 8.8.3",
        (PLAIN,),
    ),
)


def fate(name: str, tags: frozenset[str]) -> str:
    """What a proxy does with a request: the rule of the most oddities at once decides."""
    rules = RULES if name != INJECTING else (*RULES, *INJECTED)
    if ends_silently(name, tags):
        return FORWARDED
    found: dict[str, str] = {}
    for rule in rules:
        hit = tags.intersection(rule.tags)
        if hit and (not rule.together or not tags.isdisjoint(rule.together)):
            found.update(dict.fromkeys(hit, rule.fate(name)))
    return REFUSED if REFUSED in found.values() else FORWARDED


def ends_silently(name: str, tags: frozenset[str]) -> bool:
    """Whether a proxy reads nothing behind the request line, and closes behind the response.

    nginx answers HTTP/0.9, in which neither has a head.
    """
    return name == NGINX and "request line without a version" in tags


def unexplained(key: str, other: str, tags: frozenset[str]) -> bool:
    """Whether no rule explains a difference between the sidecar and another proxy."""
    changes = CHANGES_BY_INJECTION if other == PLAIN else CHANGES
    return not any(one.explains(key, other, tags) for one in changes)


# -- responses ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of an upstream's odd response.

    `fates` has a letter for the sidecar, nginx and HAProxy: passed whole (P), passed without its
    body or with another one (C), 5xx by the proxy (G), broken off (B), no response (N). A `*` is
    whatever the segments of the response make of it.
    """

    fates: str
    tags: tuple[str, ...]
    why: str = ""
    source: str = ""

    def fate(self, name: str) -> str:
        return self.fates[_LETTERS[name]]


ANSWERS_TOLD: Final = (
    Answer(
        "GPP",
        ("HTTP/1.2", "HTTP/2.0", "two spaces before the status"),
        "The status line must be one of HTTP/1.0 or HTTP/1.1, which are all there are.",
        "RFC 9112 2.3 and 4",
    ),
    Answer(
        "GNG",
        (
            *("lower-case version", "version of another protocol", "no HTTP"),
            *("status that is no number", "space before the status line"),
        ),
        "What has no status line is HTTP/0.9 to nginx, which passes it on as a body.",
        "RFC 9112 1.1 and 4",
    ),
    Answer("GNN", ("HTTP/0.9",), "HAProxy passes the version on.", "RFC 9112 2.3"),
    Answer(
        "GNB",
        ("status of two digits", "status of four digits"),
        "A status has three digits.",
        "RFC 9112 4",
    ),
    Answer("GBB", ("status 099",), "A status is at least 100.", "RFC 9110 15"),
    Answer("GPP", ("status 600", "status 999"), "A status is below 600.", "RFC 9110 15"),
    Answer(
        "PNP",
        ("empty line before the response",),
        "An empty line before a message is harmless. nginx takes it for HTTP/0.9.",
        "RFC 9112 2.2",
    ),
    Answer("GGP", ("NUL in a value",), "A value has no NUL.", "RFC 9110 5.5"),
    Answer(
        "GPP",
        ("control character in a value", "DEL in a value"),
        "A value has no control character.",
        "RFC 9110 5.5",
    ),
    Answer(
        "PGP",
        ("folded line",),
        "A gateway may refuse a folded line, or put spaces in the place of the fold.",
        "RFC 9112 5.2",
    ),
    Answer(
        "GPG",
        (
            "line without a colon",
            "character in a name that no token has",
            "octets beyond ASCII in a name",
        ),
        "The line is no field. nginx leaves it out.",
        "RFC 9110 5.1, RFC 9112 5",
    ),
    Answer(
        "PGP",
        ("field of 9,000 bytes",),
        "A head may have `limits.header` bytes. nginx takes 4 KiB or 8 KiB by default.",
        "RFC 9110 5.4",
    ),
    Answer("PPG", ("150 fields",), "HAProxy takes 101 fields by default.", "RFC 9110 5.4"),
    Answer(
        "GPP",
        ("the same Content-Length twice",),
        "A length stands there once: the next server may not understand more.",
        "RFC 9112 6.3",
    ),
    Answer(
        "GCG",
        ("two Content-Length",),
        "Two lengths are no framing.",
        "RFC 9112 6.3",
    ),
    Answer("GNP", ("Content-Length as a list",), "The same.", "RFC 9112 6.3"),
    Answer(
        "GNG",
        (
            *("Content-Length with a sign", "negative Content-Length", "empty Content-Length"),
            *("hexadecimal Content-Length", "Content-Length with a space within"),
            "Content-Length above 64 bits",
        ),
        "The length must be a number. nginx waits for an end of the connection.",
        "RFC 9112 6.3",
    ),
    Answer(
        "GPP",
        ("Content-Length beside chunked",),
        "Both framings at once may be an attempt to split responses.",
        "RFC 9112 6.3",
    ),
    Answer(
        "GPG",
        (
            *("Transfer-Encoding twice", "chunked, chunked", "gzip, chunked", "gzip alone"),
            *("Transfer-Encoding: identity", "Transfer-Encoding: xchunked"),
        ),
        "The only transfer coding that is asked for is `chunked`. nginx takes the rest for it, or "
        "for none.",
        "RFC 9112 6.1 and 7",
    ),
    Answer(
        "GPP",
        ("chunk size with a bare line feed",),
        "Lines of the chunked coding end with CRLF.",
        "RFC 9112 7.1",
    ),
    Answer(
        "*N*",
        ("chunk size with 0x", "chunk size that is no number", "chunk size above 64 bits"),
        "The chunks break off. If the head has left, so does the response.",
        "RFC 9112 7.1 and 8",
    ),
    Answer(
        "***",
        ("chunk that is too long",),
        "The same.",
        "RFC 9112 7.1 and 8",
    ),
    Answer("*PP", ("trailer that frames",), "A trailer must not frame.", "RFC 9110 6.5.1"),
    Answer(
        "BBB",
        ("Content-Length that is too long",),
        "The response is incomplete, and the connection ends: by RST here, which no client takes "
        "for the end of a response, by FIN elsewhere.",
        "RFC 9112 8",
    ),
    Answer(
        "B*B",
        ("chunks that end early", "chunks without the last one"),
        "The same. To a client of HTTP/1.0 the response of nginx looks complete.",
        "RFC 9112 8",
    ),
    Answer(
        "CPP",
        ("205 with a body",),
        "A 205 has no content, and some clients would take it for their next response.",
        "RFC 9110 15.3.6",
    ),
    Answer(
        "PNP",
        (
            "100 before the response",
            "102 before the response",
            "103 before the response",
            "100 and the response in one segment",
        ),
        "Interim responses come before the final one, and are passed on, but for 100. nginx 1.22 "
        "takes them for the final one.",
        "RFC 9110 15.2",
    ),
    Answer(
        "GNP",
        ("40 interim responses",),
        "Above 32 they are abuse.",
        "RFC 9110 15.2",
    ),
    Answer("GNG", ("100 with a length",), "A 1xx has no content.", "RFC 9110 15.2"),
    Answer(
        "GNG",
        ("101 that was not asked for",),
        "Nothing was offered to be switched to.",
        "RFC 9110 15.2.2",
    ),
    Answer(
        "GPP",
        ("two Location",),
        "Location is no list, and clients differ about which of two counts.",
        "RFC 9110 5.3 and 10.2.2",
    ),
    Answer(
        "PGP",
        ("X-Accel-Redirect",),
        "It is an order to nginx alone.",
        "nginx's documentation",
    ),
    Answer(
        "GGG",
        (
            *("CR in a value", "space before the colon", "empty name", "space in a name"),
            *("field of 70,000 bytes", "end before a byte", "end within the head"),
        ),
    ),
)
"""Odd responses in none of these are passed by all."""

ANSWER_CHANGES: Final = (
    Change(
        ("via: *", "x-request-id: *"),
        "A proxy adds itself to Via; clients are told by which id the logs know their request.",
        "RFC 9110 7.6.3",
    ),
    Change(
        ("transfer-encoding: other",),
        "The coding is written as the standard writes it.",
        "RFC 9112 7",
        (HAPROXY,),
        ("chunked, in upper case",),
    ),
    Change(("date: added",), "A response without Date gets one.", "RFC 9110 6.6.1"),
    Change(
        ("date: other",),
        "The upstream's Date stays, of two the first. nginx writes its own.",
        "RFC 9110 6.6.1",
    ),
    Change(
        ("server: *",),
        "The upstream's Server stays. nginx writes its own.",
        "RFC 9110 10.2.4",
        (NGINX,),
    ),
    Change(
        (
            "connection: *",
            "keep-alive: missing",
            "proxy-connection: missing",
            "upgrade: missing",
            "trailer: missing",
            "proxy-authenticate: missing",
            "x-hop: missing",
        ),
        "Fields of one connection, and those that Connection names, go no further. A connection of "
        "HTTP/1.0 is closed, and one of HTTP/1.1 is kept without a word.",
        "RFC 9110 7.6.1 and 11.7.1, RFC 9112 9.3",
    ),
    Change(
        ("framing",),
        "A body that is here to its end has a length; what has no content has none either.",
        "RFC 9112 6",
    ),
    Change(
        ("content-length: other",),
        "The length is written anew, without leading zeros.",
        "RFC 9110 8.6",
        tags=("Content-Length with leading zeros",),
    ),
    Change(
        ("cache-control: other", "content-type: other"),
        "Lines of one field are joined, which is read alike. Of two different types, only the one"
        " that browsers would use is passed on (Fetch standard).",
        "RFC 9110 5.3",
        tags=("Cache-Control twice", "Content-Type twice"),
    ),
    Change(
        ("reason phrase",),
        "A reason phrase that is missing or not printable gives way to the usual one.",
        "RFC 9112 4",
    ),
    Change(
        ("version",),
        "A proxy says its own version. HAProxy repeats that of the upstream.",
        "RFC 9110 2.5",
        (HAPROXY,),
    ),
    Change(
        ("access-control-allow-credentials: missing",),
        "Which site may read with credentials is the sidecar's to say.",
        "T66",
        tags=("CORS for credentials",),
    ),
    Change(
        ("x-accel-expires: added", "x-accel-buffering: added"),
        "They are orders to an nginx, which may stand in front.",
        "nginx's documentation",
        (NGINX,),
    ),
    Change(("x-a: other",), "White space of a fold is one space.", "RFC 9112 5.2", (HAPROXY,)),
)


def answer_fate(name: str, tag: str) -> str:
    """What a proxy makes of an odd response."""
    return next((one.fate(name) for one in ANSWERS_TOLD if tag in one.tags), "P")


def unexplained_in_answer(key: str, other: str, tag: str) -> bool:
    """Whether no rule explains a difference between what two clients were told."""
    return not any(one.explains(key, other, frozenset((tag,))) for one in ANSWER_CHANGES)
