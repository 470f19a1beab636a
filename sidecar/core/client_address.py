"""Who a request comes from, if trusted proxies stand between: X-Forwarded-For, else Forwarded.

Both name the hops in order, and each proxy appends the one that it saw. So they are read from the
end, and only as far as trusted proxies vouch for them: what a client writes itself is never
believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Final

MOST_HOPS: Final = 32  # that are looked at
_LONGEST: Final = 4096  # bytes of a field that are looked at, its last ones

_PAIR: Final = rb'\s*+([!#-\'*+.^-z|~0-9A-Z-]+)=("(?:[^"\\]|\\.)*+"|[^";,\s]*+)\s*+'
_ELEMENT: Final = re.compile(rb"(?:(?:%b)?;)*+(?:%b|\s*+)" % (_PAIR, _PAIR), re.DOTALL)
_PAIRS: Final = re.compile(_PAIR, re.DOTALL)
_WITH_PORT: Final = re.compile(r"\[([0-9a-f:.]+)\](?::\d+)?|([0-9.]+):\d+", re.IGNORECASE)


def client_address(
    peer: str,
    is_trusted: Callable[[str], bool],
    forwarded_for: bytes,
    forwarded: Iterable[bytes] = (),
) -> str:
    """The address of the first hop, from the end, that is no trusted proxy; `peer` is the last one.

    `forwarded_for` is the value of X-Forwarded-For, `forwarded` the values of Forwarded (RFC 7239),
    which count if there is no X-Forwarded-For. A hop that gives no address ends the search.
    """
    client, hops = peer, [*(_listed(forwarded_for) or _named(forwarded))][-MOST_HOPS:]
    while hops and is_trusted(client):
        before = _address(hops.pop())
        if before is None:
            break
        client = before
    return client


def client_network(address: str) -> bytes | None:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address (RFC 6177).

    None if it is no address, as the peer on a Unix socket.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    return found.packed if found.version == 4 else found.packed[:8]


def _listed(value: bytes) -> Sequence[bytes]:
    return [hop for hop in value[-_LONGEST:].split(b",") if hop.strip()]


def _named(values: Iterable[bytes]) -> Sequence[bytes]:
    """The `for` of each element (RFC 7239 4), the last of which are found whatever stands before.

    Proxies quote what a client writes, such as its Host: a comma in quotation marks begins no
    element, and neither does one behind a mark that is not closed.
    """
    parts = b",".join(values)[-_LONGEST:].split(b",")[-MOST_HOPS:]
    hops: list[bytes] = []
    element = b""
    while parts:
        element = parts.pop() + element
        if _ELEMENT.fullmatch(element):
            # Blanks are taken off: a search that finds none would begin anew at each of them.
            pairs = _PAIRS.findall(element.strip())
            named = [value for name, value in pairs if name.lower() == b"for"]
            hops += named[:1]
            element = b""
        else:
            element = b"," + element
    return hops[::-1]


def _address(hop: bytes) -> str | None:
    """An address in its normal form, without a port; None for `unknown` and names (RFC 7239 6)."""
    text = hop.decode("latin-1").strip().strip('"')
    with_port = _WITH_PORT.fullmatch(text)
    if with_port is not None:
        text = with_port[1] or with_port[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if "%" in text:  # a zone is of one machine alone
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
