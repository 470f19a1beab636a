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
    ],
)
def test_ambiguous_framing_and_impossible_fields_are_refused(
    fields: list[tuple[bytes, bytes]],
) -> None:
    """T21: such an answer is a bad gateway."""
    with pytest.raises(UpstreamProtocolError):
        UpstreamHead(200, fields)


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
