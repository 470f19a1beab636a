"""The header of the PROXY protocol: every form of both versions, and whatever is none."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.proxy_protocol import (
    LONGEST,
    LONGEST_LINE,
    BadProxyHeader,
    Origin,
    ProxyHeader,
    end_of,
    read_header,
)

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
BEHIND: Final = b"GET / HTTP/1.1\r\n\r\n"
V4: Final = socket.inet_aton("203.0.113.7") + socket.inet_aton("10.0.0.1") + b"\xde\xad\x01\xbb"
V6: Final = IPv6Address("2001:db8::7").packed + IPv6Address("::1").packed + b"\xde\xad\x01\xbb"
MAPPED: Final = IPv6Address("::ffff:203.0.113.7").packed + V6[16:]
UNIX: Final = b"/run/client".ljust(108, b"\0") + b"/run/balancer".ljust(108, b"\0")
TLVS: Final = b"\x02\x00\x03app" + b"\x04\x00\x00" + b"\x20\x00\x05\x01\x00\x00\x00\x00"


def binary(
    kind: int, body: bytes = b"", *, command: int = 0x21, length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((command, kind)) + size.to_bytes(2) + body


FILL: Final = LONGEST - 16 - len(V4) - 3  # bytes of one extension that makes a header the longest

CLIENT: Final = ProxyHeader(Origin.CLIENT, "203.0.113.7")
CLIENT6: Final = ProxyHeader(Origin.CLIENT, "2001:db8::7")
LOCAL: Final = ProxyHeader(Origin.BALANCER)
UNKNOWN: Final = ProxyHeader(Origin.UNKNOWN)

GOOD: Final = [
    # Version 1.
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", CLIENT),
    (b"PROXY TCP4 203.0.113.7 10.0.0.1 0 65535\r\n", CLIENT),
    (b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", CLIENT6),
    (b"PROXY TCP6 2001:DB8:0::7 ::1 56324 443\r\n", CLIENT6),
    (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 56324 443\r\n", CLIENT),
    (b"PROXY UNKNOWN\r\n", UNKNOWN),
    (b"PROXY UNKNOWN ffff::1 \xff\x00 anything 65535\r\n", UNKNOWN),
    (b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 16) + b"\r\n", UNKNOWN),
    # Version 2: by TCP and by UDP.
    (binary(0x11, V4), CLIENT),
    (binary(0x12, V4), CLIENT),
    (binary(0x21, V6), CLIENT6),
    (binary(0x22, V6), CLIENT6),
    (binary(0x21, MAPPED), CLIENT),
    (binary(0x31, UNIX), ProxyHeader(Origin.CLIENT)),
    (binary(0x32, UNIX), ProxyHeader(Origin.CLIENT)),
    # What is appended is skipped.
    (binary(0x11, V4 + TLVS), CLIENT),
    (binary(0x11, V4 + b"\x05" + FILL.to_bytes(2) + bytes(FILL)), CLIENT),
    # The balancer itself, whatever else stands there.
    (binary(0x00, command=0x20), LOCAL),
    (binary(0x11, V4, command=0x20), LOCAL),
    (binary(0xFF, b"any", command=0x20), LOCAL),
    # A family or a transport that is not said.
    (binary(0x00), UNKNOWN),
    (binary(0x00, V4), UNKNOWN),
    (binary(0x10, V4), UNKNOWN),
    (binary(0x01, V4), UNKNOWN),
]

BAD: Final = [
    # No header at all: HTTP, TLS, SSH, a line end, a byte.
    BEHIND,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"SSH-2.0-x\r\n",
    b"\r\nPROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n",
    b"\0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # Version 1.
    b"proxy TCP4 203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWN\r \r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY  TCP4 203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4  203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4\t203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2 \r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2 3\r\n",
    b"PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP5 203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY tcp4 203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.256 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.07 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7/8 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.x 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    b"PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP6 2001:db8::7:: ::1 1 2\r\n",
    b"PROXY TCP6 [2001:db8::7] ::1 1 2\r\n",
    b"PROXY TCP6 2001:db8::7 nowhere 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 -1 2\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 01 2\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 2\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1 99999\r\n",
    b"PROXY TCP4 203.0.113.7 10.0.0.1 1 123456\r\n",
    "PROXY TCP4 203.0.113.7 10.0.0.1 1 \N{SUPERSCRIPT TWO}\r\n".encode("latin-1"),
    b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 15) + b"\r\n",
    b"PROXY " + b"x" * LONGEST_LINE,
    # Version 2.
    SIGNATURE[:-1] + b"X",
    binary(0x11, V4, command=0x11),
    binary(0x11, V4, command=0x31),
    binary(0x11, V4, command=0x22),
    binary(0x11, V4, command=0x2F),
    binary(0x41, V4),
    binary(0xF1, V4),
    binary(0x13, V4),
    binary(0x1F, V4),
    binary(0x11, V4[:-1]),
    binary(0x11),
    binary(0x21, V6[:-1]),
    binary(0x21, V4),
    binary(0x31, UNIX[:-1]),
    binary(0x11, V4 + b"\x02"),
    binary(0x11, V4 + b"\x02\x00"),
    binary(0x11, V4 + b"\x02\x00\x01"),
    binary(0x11, V4 + TLVS + b"\x02\xff\xffx"),
    binary(0x11, bytes(LONGEST - 15)),
    binary(0x11, length=0xFFFF),
    binary(0x00, command=0x20, length=0xFFFF),
]


@pytest.mark.parametrize(("header", "told"), GOOD)
def test_header_names_its_client(header: bytes, told: ProxyHeader) -> None:
    """And ends where it does, whatever comes behind it, in however many pieces."""
    assert read_header(header) == told
    assert end_of(header + BEHIND) == len(header)
    assert end_of(header + header) == len(header)
    assert [end_of(header[:at]) for at in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read_header(data[: end_of(data)])


@pytest.mark.parametrize("data", [BEHIND, b"SSH", b"PROXIMITY", SIGNATURE[:5] + b"X", b"PROXY\t"])
def test_what_cannot_become_a_header_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadProxyHeader, match="no header"):
        end_of(data)


def test_header_must_be_whole() -> None:
    with pytest.raises(BadProxyHeader, match="whole"):
        read_header(GOOD[0][0] + b"G")
    with pytest.raises(BadProxyHeader, match="whole"):
        read_header(GOOD[0][0][:-1])


headers = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(b"PROXY ".__add__),
    st.binary(max_size=200).map(SIGNATURE.__add__),
    st.builds(
        lambda kind, body, command: binary(kind, body, command=command),
        st.integers(0, 255),
        st.binary(max_size=300),
        st.integers(0x1E, 0x23),
    ),
    st.text("PROXYTCP46UNKNOWN 0123456789abcdef:.\r\n", max_size=120).map(
        lambda text: f"PROXY {text}".encode()
    ),
)


@given(headers)
def test_any_bytes_give_an_answer_wherever_they_are_cut(data: bytes) -> None:
    """One and the same for each way of cutting them; what is refused stays refused."""
    found: list[int | str | None] = []
    for at in range(len(data) + 1):
        try:
            found.append(end_of(data[:at]))
        except BadProxyHeader:
            found.append("bad")
    kinds = [one for at, one in enumerate(found) if one is not None]
    assert found[: len(found) - len(kinds)] == [None] * (len(found) - len(kinds))
    assert len(set(kinds)) <= 1
    if kinds and kinds[0] != "bad":
        end = kinds[0]
        assert isinstance(end, int)
        assert end <= min(len(data), LONGEST)
        with suppress(BadProxyHeader):
            read_header(data[:end])
    else:
        assert len(data) < LONGEST or kinds


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535))
def test_addresses_come_through_in_both_versions(
    source: IPv4Address | IPv6Address,
    target: IPv4Address | IPv6Address,
    source_port: int,
    target_port: int,
) -> None:
    if source.version != target.version:
        return
    line = f"PROXY TCP{source.version} {source} {target} {source_port} {target_port}\r\n"
    kind = 0x11 if source.version == 4 else 0x21
    ports = source_port.to_bytes(2) + target_port.to_bytes(2)
    shown = str(getattr(source, "ipv4_mapped", None) or source)
    for header in (line.encode(), binary(kind, source.packed + target.packed + ports)):
        assert read_header(header) == ProxyHeader(Origin.CLIENT, shown)


def test_longest_line_of_the_specification_fits() -> None:
    """That of section 2.1, of 107 bytes with its line end."""
    v6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    line = f"PROXY UNKNOWN {v6} {v6} 65535 65535\r\n".encode()
    assert len(line) == LONGEST_LINE
    assert read_header(line) == UNKNOWN
