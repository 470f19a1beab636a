"""What of an upstream's head is refused before anything of it is passed on."""

from __future__ import annotations

import pytest

from sidecar.core.errors import UpstreamProtocolError
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
