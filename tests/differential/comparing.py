"""What differs between the sidecar and the others, and what none of them may do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.corpus.wire import Message
from tests.differential.explained import FORWARDED, REFUSED, ends_silently, fate, unexplained
from tests.differential.playing import Outcome
from tests.differential.servers import HAPROXY, INJECTING, NGINX, PLAIN
from tests.differential.streams import Sent, Stream

_FRAMING = ("content-length", "transfer-encoding")
_PAIRS = ((PLAIN, NGINX), (PLAIN, HAPROXY), (INJECTING, PLAIN))


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that no rule explains."""

    who: str
    request: str
    tags: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.request} ({', '.join(self.tags)}): {self.who}: {self.what}"


@dataclass(slots=True)
class Compared:
    """The faults of a stream, and how often each kind of difference was seen."""

    faults: list[Fault]
    differences: Counter[tuple[str, str]]


def compare(stream: Stream, outcomes: Mapping[str, Outcome]) -> Compared:
    """Compares what came of a stream."""
    found = Compared([], Counter())
    for name, outcome in outcomes.items():
        found.faults += _faults_of(name, stream, outcome)
    for one in stream.requests:
        _compare_request(one, outcomes, found)
    return found


def _compare_request(one: Sent, outcomes: Mapping[str, Outcome], found: Compared) -> None:
    for ours, other in _PAIRS:
        here, there = outcomes[ours].seen.get(one.name), outcomes[other].seen.get(one.name)
        if (here is None) != (there is None):
            found.differences[other, "refused" if here is None else "accepted"] += 1
        if here is None or there is None:
            continue
        for key in differences(here, there):
            found.differences[other, key] += 1
            if unexplained(key, other, one.tags):
                told = f"{key}: {_shown(here, key)} here, {_shown(there, key)} there"
                who = f"{ours} against {other}"
                found.faults.append(Fault(who, one.name, tuple(sorted(one.tags)), told))


def _shown(message: Message, key: str) -> str:
    name = key.partition(":")[0]
    if name in ("target", "version"):
        return repr(message.start)
    return repr(message.body[:80] if name == "body" else message.all(name))


def _faults_of(name: str, stream: Stream, outcome: Outcome) -> Iterator[Fault]:
    """What a proxy has done that the rules do not say."""
    ours = name in (PLAIN, INJECTING)
    for stranger in outcome.strangers:
        yield Fault(name, "stream", _all_tags(stream), f"{stranger.start!r} at the upstream")
    if ours:
        for anomaly in outcome.anomalies():
            yield Fault(name, "stream", _all_tags(stream), anomaly)
    last = stream.requests[-1]
    for one in stream.requests:
        told, is_whole = fate(name, one.tags), not stream.missing or one is not last
        is_seen = one.name in outcome.seen
        tags = tuple(sorted(one.tags))
        # What is ambiguous ends earlier for some.
        is_clear = fate(PLAIN, one.tags) == FORWARDED
        if is_seen and not is_whole and (ours or is_clear):
            yield Fault(name, one.name, tags, "a request that was cut off counts as whole")
        if is_seen and told == REFUSED:
            yield Fault(name, one.name, tags, "is forwarded, and must be refused")
        if not is_seen:
            if is_whole and told == FORWARDED:
                yield Fault(name, one.name, tags, f"is not forwarded: {outcome.statuses}")
            return
        if ends_silently(name, one.tags) or _ends(one, outcome):
            return


def _all_tags(stream: Stream) -> tuple[str, ...]:
    return tuple(tag for one in stream.requests for tag in sorted(one.tags))


def _ends(one: Sent, outcome: Outcome) -> bool:
    """Whether the response to this request says that its connection ends."""
    answers = [each for each in outcome.answers if each.get("x-answer") == one.name]
    return any("close" in each.get("connection").lower() for each in answers)


def differences(here: Message, there: Message) -> list[str]:
    """What differs between two requests at an upstream, by keys: `via: added`, `body`."""
    keys = []
    if here.method != there.method:
        keys.append("method")
    if here.target != there.target:
        keys.append("target")
    if here.start.rpartition(b" ")[2] != there.start.rpartition(b" ")[2]:
        keys.append("version")
    if here.body != there.body:
        keys.append("body")
    if here.trailers != there.trailers:
        keys.append("trailers")
    return keys + field_differences(here, there)


def field_differences(here: Message, there: Message) -> list[str]:
    """What differs between two header sections: `framing`, `via: added`, `x: missing`, …"""
    keys = []
    ours, theirs = _fields(here), _fields(there)
    if _framing(ours) != _framing(theirs):
        keys.append("framing")
    for name in sorted(set(ours) | set(theirs)):
        if name in _FRAMING and ("framing" in keys or name not in ours or name not in theirs):
            continue
        if name not in theirs:
            keys.append(f"{name}: added")
        elif name not in ours:
            keys.append(f"{name}: missing")
        elif ours[name] != theirs[name]:
            keys.append(f"{name}: other")
    return keys


def _framing(fields: Mapping[str, list[str]]) -> list[bool]:
    return [name in fields for name in _FRAMING]


def _fields(message: Message) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in message.fields:
        found.setdefault(name.lower(), []).append(value)
    return found
