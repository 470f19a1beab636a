"""The header of the PROXY protocol: a balancer says for whom it has connected.

It comes before everything else on a connection, TLS too: a line of text in version 1, and binary
data in version 2 (HAProxy's doc/proxy-protocol.txt, sections 2.1 and 2.2). Whether to believe it is
for the caller to say.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

LONGEST: Final = 4096
"""Bytes of a header of version 2, with all that is appended to the addresses."""
LONGEST_LINE: Final = 107
"""Bytes of a header of version 1, with its line end."""

_LINE: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16  # bytes of version 2 before the addresses
_VERSION: Final = 0x20
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_NAMED: Final = re.compile(
    rb"PROXY TCP(?:4 ([0-9.]+) ([0-9.]+)|6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+))"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)


class BadProxyHeader(ValueError):
    """What a connection begins with is no header, or one that nobody may send."""


class Origin(Enum):
    """Who a connection is for."""

    CLIENT = "client"
    """Whoever has the address that is named."""
    BALANCER = "balancer"
    """The sender itself, such as for a health check."""
    UNKNOWN = "unknown"
    """Somebody whose address the sender does not know, or cannot name."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """What a header says."""

    origin: Origin
    address: str = ""
    """The IP address of the client; empty if it has come to the balancer by a Unix socket."""


def end_of(data: bytes) -> int | None:
    """Where the header ends that a connection begins with; None if more of it is to come.

    Raises `BadProxyHeader` once nothing that could follow would make a header of it.
    """
    if data[:6] == _LINE[: len(data)]:
        return _end_of_line(data)
    if data[:12] == _SIGNATURE[: len(data)]:
        return _end_of_binary(data)
    raise BadProxyHeader("no header of the PROXY protocol")


def read_header(header: bytes) -> ProxyHeader:
    """What a whole header says. Raises `BadProxyHeader`."""
    if end_of(header) != len(header):
        raise BadProxyHeader("not a whole header")
    return _read_line(header) if header.startswith(_LINE) else _read_binary(header)


# -- version 1 ------------------------------------------------------------------------------------


def _end_of_line(data: bytes) -> int | None:
    at = data.find(b"\n", 0, LONGEST_LINE)
    if at >= 0:
        return at + 1
    if len(data) >= LONGEST_LINE:
        raise BadProxyHeader(f"a line of more than {LONGEST_LINE} bytes")
    return None


def _read_line(line: bytes) -> ProxyHeader:
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(Origin.UNKNOWN)
    found = _NAMED.fullmatch(line)
    if found is None:
        raise BadProxyHeader("a malformed line")
    v4, to_v4, v6, to_v6, *ports = found.groups()
    try:
        if v4 is not None:
            addresses = [str(IPv4Address(one.decode())) for one in (v4, to_v4)]
        else:
            addresses = [_of_v6(IPv6Address(one.decode())) for one in (v6, to_v6)]
    except ValueError:
        raise BadProxyHeader("an invalid address") from None
    if any(int(port) > 65535 for port in ports):
        raise BadProxyHeader("an invalid port")
    return ProxyHeader(Origin.CLIENT, addresses[0])


def _of_v6(address: IPv6Address) -> str:
    """IPv4 as such (RFC 4291 2.5.5.2)."""
    return str(address.ipv4_mapped or address)


# -- version 2 ------------------------------------------------------------------------------------

_LOCAL, _PROXY = 0, 1
_ANY, _V4, _V6, _UNIX = range(4)
_TRANSPORTS: Final = range(3)  # unspecified, stream, datagram
_ADDRESS_BYTES: Final = {_ANY: 0, _V4: 12, _V6: 36, _UNIX: 216}


def _end_of_binary(data: bytes) -> int | None:
    if len(data) > 12 and data[12] & 0xF0 != _VERSION:
        raise BadProxyHeader("an unknown version")
    if len(data) < _FIXED:
        return None
    end = _FIXED + int.from_bytes(data[14:16])
    if end > LONGEST:
        raise BadProxyHeader(f"a header of more than {LONGEST} bytes")
    return end if len(data) >= end else None


def _read_binary(header: bytes) -> ProxyHeader:
    command, family, transport = header[12] & 0x0F, header[13] >> 4, header[13] & 0x0F
    if command == _LOCAL:
        return ProxyHeader(Origin.BALANCER)  # the rest is to be ignored
    if command != _PROXY:
        raise BadProxyHeader("an unknown command")
    if family not in _ADDRESS_BYTES or transport not in _TRANSPORTS:
        raise BadProxyHeader("an unknown family or transport")
    if _ANY in (family, transport):
        return ProxyHeader(Origin.UNKNOWN)
    end = _FIXED + _ADDRESS_BYTES[family]
    if len(header) < end:
        raise BadProxyHeader("too few bytes for the addresses")
    _check_extensions(header[end:])
    return ProxyHeader(Origin.CLIENT, _address(family, header[_FIXED:end]))


def _check_extensions(data: bytes) -> None:
    """Type, length, value, and so on to the end (section 2.2); none of them is looked into."""
    at = 0
    while at < len(data):
        at += 3 + int.from_bytes(data[at + 1 : at + 3])
    if at > len(data):
        raise BadProxyHeader("an extension that is cut off")


def _address(family: int, addresses: bytes) -> str:
    if family == _V4:
        return str(IPv4Address(addresses[:4]))
    if family == _V6:
        return _of_v6(IPv6Address(addresses[:16]))
    return ""
