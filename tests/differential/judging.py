"""What became of an upstream's response, and what differs between two clients' responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from tests.corpus.wire import Message
from tests.differential.answers import BODY, Asked
from tests.differential.comparing import Compared, Fault, field_differences
from tests.differential.explained import answer_fate, unexplained_in_answer
from tests.differential.playing import Told
from tests.differential.servers import HAPROXY, NGINX, PLAIN

PASSED, CHANGED, GATEWAY, BROKEN, NOTHING = "P", "C", "G", "B", "N"
_EMPTY: Final = frozenset(
    (
        "Content-Length: 0",
        "no framing, and empty",
        "chunked, empty",
        "204",
        "204 with a length",
        "304",
        "304 with a length",
        "Location at the upstream",
        "Location elsewhere",
        "two Location",
        "204 with a body",
        "204 with chunks",
        "304 with a body",
    )
)
_JSON: Final = b'{"a":'


def fate_of(asked: Asked, told: Told) -> str:
    """Passed whole, passed with another body, 5xx by the proxy, broken off, or no response."""
    first = told.first
    if first is None:
        return NOTHING
    if 500 <= first.status < 600 and asked.tag not in ("status 500", "status 503"):
        return GATEWAY
    if not first.is_whole:
        return BROKEN
    body = b"" if asked.tag in _EMPTY or asked.method == "HEAD" else BODY
    return PASSED if first.body in (body, _JSON) else CHANGED


def differences(here: Message, there: Message) -> list[str]:
    """What differs between two heads for clients: `status line`, `via: added`, `framing`."""
    found = field_differences(here, there)
    if here.start.split(b" ")[:2] != there.start.split(b" ")[:2]:
        found.append("version")
    elif here.start != there.start:
        found.append("reason phrase")
    return found


def compare_answers(asked: Asked, told: Mapping[str, Told]) -> Compared:
    """Compares what clients were told of one response."""
    found = Compared([], Counter())
    name, tags = f"c{asked.number}.0", (asked.tag, asked.version)
    fates = {who: fate_of(asked, one) for who, one in told.items()}
    for who, fate in fates.items():
        expected = answer_fate(who, asked.tag)
        if expected not in ("*", fate):
            found.faults.append(Fault(who, name, tags, f"{fate} in place of {expected}"))
    found.faults += [Fault(PLAIN, name, tags, one) for one in _anomalies(asked, told[PLAIN])]
    for other in (NGINX, HAPROXY):
        here, there = told[PLAIN].first, told[other].first
        if fates[PLAIN] != fates[other]:
            found.differences[other, f"response {fates[PLAIN]}{fates[other]}"] += 1
        elif here is not None and there is not None and fates[PLAIN] != GATEWAY:
            for key in differences(here, there):
                found.differences[other, f"response {key}"] += 1
                if unexplained_in_answer(key, other, asked.tag):
                    what = f"{key}: {here.raw!r} here, {there.raw!r} there"
                    found.faults.append(Fault(f"{PLAIN} against {other}", name, tags, what))
    return found


def _anomalies(asked: Asked, told: Told) -> Iterator[str]:
    """What no response may do: be read in two ways, or give a client what another one sent."""
    if told.first is not None:
        yield from told.first.anomalies
    second = told.second
    if second is not None and second.body != f"answer of c{asked.number}.1".encode():
        yield f"the next response is {second.start!r} {second.body[:60]!r}"
    if second is None and told.ended == "open":
        yield "the next request has no response"
