"""What of an upstream's head is refused before anything of it is passed on."""

from __future__ import annotations

import pytest

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.scan import scan_answer
from sidecar.core.upstream_head import UpstreamHead


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"chunked, gzip")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"5")],
        [(b"X A", b"1")],
        [(b"", b"1")],
        [(b"X-A", b"1\r\nX-B: 2")],
        [(b"X-A", b"a\x00b")],
        [(b"Location", b"/\x0b")],
        [(b"Location", b"/a"), (b"location", b"/b")],
        [(b"ETag", b'"a"'), (b"ETag", b'"b"')],
        [(b"Content-Disposition", b"inline"), (b"Content-Disposition", b"attachment")],
    ],
)
def test_ambiguous_framing_and_impossible_fields_are_refused(
    fields: list[tuple[bytes, bytes]],
) -> None:
    """T21: such an answer is a bad gateway."""
    with pytest.raises(UpstreamProtocolError):
        UpstreamHead(200, fields)


def test_field_that_is_no_list_may_be_repeated_alike() -> None:
    """RFC 9110 5.3: it is one field all the same."""
    head = UpstreamHead(302, [(b"Location", b"/a"), (b"Location", b"/a")])
    assert head.facts[b"location"] == b"/a"


JSON = b"application/json"


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([JSON, JSON], JSON),
        ([JSON + b", " + JSON], JSON),
        ([JSON + b"," + JSON, JSON], JSON),
        ([b"text/html", JSON], JSON),
        ([JSON, b"text/html"], b"text/html"),
        ([JSON, b"none", b"", b"*/*"], JSON),
        ([b"none", b"nothing"], b"none, nothing"),
        ([b"text/html;charset=gbk", b"Text/HTML;a=b"], b"Text/HTML;a=b; charset=gbk"),
        ([b"text/html;charset=gbk;a=b", b"x/x", b"text/html;x=y"], b"text/html;x=y"),
        ([b"text/html;charset=gbk", b"text/html;charset=utf-8"], b"text/html;charset=utf-8"),
        ([b'multipart/mixed; boundary="a,b"'], b'multipart/mixed; boundary="a,b"'),
        ([b'text/plain;a="', b"text/html"], b'text/plain;a=", text/html'),
    ],
)
def test_of_several_types_one_counts(values: list[bytes], counts: bytes) -> None:
    """The last valid one, as in browsers (Fetch 2.2.4), in one field or in several.

    The common head and all others are read alike.
    """
    head = UpstreamHead(200, [(b"Content-Type", value) for value in values])
    assert head.facts[b"content-type"] == counts
    if len(values) == 1:
        scanned = scan_answer(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: 0\r\n\r\n" % values[0]
        )
        assert scanned is not None
        assert scanned[0].facts[b"content-type"] == counts


@pytest.mark.parametrize("name", [b"Content-MD5", b"Sec-WebSocket-Accept"])
def test_equal_values_of_what_is_no_list_are_one(name: bytes) -> None:
    """Different ones are no value that anybody would believe."""
    assert UpstreamHead(200, [(name, b"a"), (name, b"a")]).facts[name.lower()] == b"a"
    assert UpstreamHead(200, [(name, b"a"), (name, b"b")]).facts[name.lower()] == b"a, b"


@pytest.mark.parametrize("name", [b"Content-Encoding", b"WWW-Authenticate", b"Cache-Control"])
def test_lists_are_joined_with_equal_members_too(name: bytes) -> None:
    """RFC 9110 5.3: a body may be coded twice alike."""
    assert UpstreamHead(200, [(name, b"a"), (name, b"a")]).facts[name.lower()] == b"a, a"


@pytest.mark.parametrize("name", [b"Retry-After", b"Age", b"Last-Modified", b"Expires"])
def test_what_is_not_read_passes_line_by_line(name: bytes) -> None:
    head = UpstreamHead(200, [(name, b"1"), (name, b"1")])
    assert head.lines == [name + b": 1"] * 2


def test_the_first_of_two_dates_counts() -> None:
    """Applications and the servers in front of them both write one, a second apart."""
    head = UpstreamHead(200, [(b"Date", b"1"), (b"Date", b"2")])
    assert head.facts[b"date"] == b"1"


@pytest.mark.parametrize("status", [0, 99, 100, 102, 199, 600, 999])
def test_a_status_that_is_no_final_one_is_refused(status: int) -> None:
    """101 is the one exception: the tunnel judges it (RFC 9110 15)."""
    with pytest.raises(UpstreamProtocolError):
        UpstreamHead(status, ())
    assert UpstreamHead(101, ()).status == 101


def test_fields_that_connection_names_end_here() -> None:
    """RFC 9110 7.6.1, in any case and number."""
    head = UpstreamHead(200, [(b"Connection", b"X-Hop, close"), (b"x-hop", b"1"), (b"X-Own", b"2")])
    assert head.lines == [b"X-Own: 2"]
