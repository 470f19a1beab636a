"""A header of the PROXY protocol ends where it says, however it is cut, and names an address.

A plain reading of version 1 and 2 (HAProxy's doc/proxy-protocol.txt) is asked.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final

from sidecar.core.proxy_protocol import (
    LONGEST,
    LONGEST_LINE,
    BadProxyHeader,
    Origin,
    ProxyHeader,
    end_of,
    read_header,
)
from tests.fuzz.target import Target

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FAMILIES: Final = {1: (socket.AF_INET, 4), 2: (socket.AF_INET6, 16)}


def check(data: bytes) -> None:
    end = _end(data)
    for at in range(min(len(data), 300)):
        cut = _end(data[:at])
        if end is not None and end > at:
            assert cut is None, "a header ends before its end"
        if cut is not None and cut >= 0:
            assert cut == end, "what follows moves the end"
    if end is None or end < 0:
        return
    assert end <= max(LONGEST, LONGEST_LINE)
    header = data[:end]
    try:
        said = read_header(header)
    except BadProxyHeader:
        return
    assert said.origin is Origin.CLIENT or not said.address
    if said.address:
        ip_address(said.address)
    assert said == _plainly(header), (said, header)


def _end(data: bytes) -> int | None:
    """Where the header ends, -1 if there is none, None if more is to come."""
    try:
        return end_of(data)
    except BadProxyHeader:
        return -1


def _plainly(header: bytes) -> ProxyHeader:
    """What a header says that was accepted."""
    if not header.startswith(SIGNATURE):
        words = header.removesuffix(b"\r\n").split(b" ")
        if words[1] == b"UNKNOWN":
            return ProxyHeader(Origin.UNKNOWN)
        return ProxyHeader(Origin.CLIENT, _spelled(words[2].decode()))
    command, family, transport = header[12] & 15, header[13] >> 4, header[13] & 15
    if command == 0:
        return ProxyHeader(Origin.BALANCER)
    if not family or not transport:
        return ProxyHeader(Origin.UNKNOWN)
    if family not in _FAMILIES:
        return ProxyHeader(Origin.CLIENT)
    kind, size = _FAMILIES[family]
    return ProxyHeader(Origin.CLIENT, _spelled(socket.inet_ntop(kind, header[16 : 16 + size])))


def _spelled(address: str) -> str:
    found = ip_address(address)
    return str(getattr(found, "ipv4_mapped", None) or found)


_V4: Final = bytes((203, 0, 113, 7, 10, 0, 0, 1, 1, 2, 3, 4))
_V6: Final = b"\x20\x01\x0d\xb8" + bytes(27) + b"\x01" + bytes(4)
TARGET: Final = Target(
    check,
    words=[
        *(SIGNATURE, b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n", b"\n", b" ", b"\x21\x11"),
        *(b"\x20\0", b"\x21\x21", b"\x21\x31", b"\0\x0c", b"\0\x24", b"\0\xd8", b"\xff\xff"),
        *(b"1.2.3.4", b"01.2.3.4", b"::1", b"::ffff:1.2.3.4", b"65535", b"65536", b"00", b"%eth0"),
    ],
    seeds=[
        b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\n",
        b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n",
        b"PROXY UNKNOWN anything\r\n",
        SIGNATURE + b"\x21\x11\0\x0c" + _V4,
        SIGNATURE + b"\x21\x21\0\x27" + _V6 + b"\x04\0\0",
        SIGNATURE + b"\x20\0\0\0",
    ],
    longest=4200,
)
