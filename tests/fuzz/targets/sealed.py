"""What is sealed or signed here (tickets, login attempts, store entries) is believed of us alone.

An input says the kind, and a text in which 0x01 stands for a genuine one and 0x02 for its last
half; or else how a genuine one is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any, Final

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar
from sidecar.core.errors import StoreUnavailable
from sidecar.core.oidc.attempt import AttemptCookies, begin_attempt
from sidecar.core.oidc.session_index import sessions_in
from sidecar.core.onward import OnwardTickets
from sidecar.core.tickets import ClaimStamp, Signer
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.sealed_store import SealedStore
from sidecar.sessions.session_records import Message
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import NOW, OWN

SIGNER: Final = Signer(OWN)
ONWARD: Final = OnwardTickets(OWN)
ATTEMPTS: Final = AttemptCookies("sidecar", OWN, 3600.0)
STAMP: Final = ClaimStamp(OWN)
SCOPE: Final = Scope(https=True, host="app.example.com")
KEY: Final = "own:fingerprint"

_ATTEMPT: Final = begin_attempt(
    bytes(range(32)), "/a/place?x=1", "https://app.example.com/auth/callback", NOW
)
_LOOP: Final = asyncio.new_event_loop()


def _attempt(text: str) -> Any:
    """The attempt in a cookie of this value, under the name that its state asks for."""
    state = _ATTEMPT.state
    name = next(iter(CookieJar.parse(_attempt_cookie()).names()))
    found = ATTEMPTS.find(CookieJar.parse(f"{name}={text}"), state, SCOPE, NOW)
    return None if found is None else found.seed


def _attempt_cookie() -> str:
    lines = ATTEMPTS.lines(CookieJar.parse(""), _ATTEMPT, SCOPE, NOW)
    return lines[-1].partition(b";")[0].decode("latin-1")


async def _stored(sealed: bytes) -> bytes | None:
    store = MemoryStore(lambda _: None)
    await store.put(KEY, sealed, 60.0)
    try:
        return await SealedStore(store, OWN, lambda _: None).get(KEY)
    except StoreUnavailable:
        return None


async def _sealed() -> bytes:
    store = MemoryStore(lambda _: None)
    await SealedStore(store, OWN, lambda _: None).put(KEY, b"a value", 60.0)
    value = await store.get(KEY)
    assert value is not None
    return value


KINDS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "ticket": (
        SIGNER.ticket(SIGNER.fingerprint("a"), NOW, frozenset({1, 3}), "problem"),
        lambda text: SIGNER.read_ticket(text, NOW),
    ),
    "bare ticket": (SIGNER.ticket(None, NOW), lambda text: SIGNER.read_ticket(text, NOW)),
    "onward": (ONWARD.write("a.b.c", NOW), lambda text: ONWARD.read(text, NOW)),
    "place": (ATTEMPTS.state(_ATTEMPT).partition(".")[2], lambda text: ATTEMPTS.place("s." + text)),
    "attempt": (_attempt_cookie().partition("=")[2], _attempt),
    "entry": (
        _LOOP.run_until_complete(_sealed()).decode("latin-1"),
        lambda text: _LOOP.run_until_complete(_stored(text.encode("latin-1"))),
    ),
    "stamp": (
        str(STAMP.write("fingerprint", NOW)["mac"]),
        lambda text: STAMP.read({"fingerprint": "fingerprint", "issuedAt": NOW, "mac": text})[0],
    ),
}
NAMES: Final = tuple(KINDS)


def check(data: bytes) -> None:
    draw = Draw(data)
    kind = draw.pick(NAMES)
    genuine, read = KINDS[kind]
    assert read(genuine), "a genuine one does not open"
    if draw.byte() % 2:
        text = draw.rest().decode("latin-1")
        text = text.replace("\x01", genuine).replace("\x02", genuine[len(genuine) // 2 :])
    else:
        text = _changed(genuine, draw)
    if read(text):
        assert _octets(text, kind) == _octets(genuine, kind), (
            f"a {kind} opens that was not made here"
        )
    _says_nothing(text.encode("latin-1"))


def _changed(genuine: str, draw: Draw) -> str:
    text = genuine
    while draw.left:
        at, octet = draw.byte() % (len(text) + 1), chr(draw.byte())
        kind = draw.byte() % 3
        text = text[:at] + (octet if kind < 2 else "") + text[at + (kind > 0) :]
    return text


def _octets(text: str, kind: str) -> object:
    """What base64url says, whatever stands in the bits that it leaves open."""
    if kind == "entry":
        return text
    text = text.partition(";")[0].strip(" \t") if kind == "attempt" else text  # of a cookie
    try:
        return [urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split(".")]
    except ValueError:
        return text


def _says_nothing(data: bytes) -> None:
    """Other values of the store, which are behind its seal, are refused by their own errors."""
    Message.from_bytes(data)
    with contextlib.suppress(ValueError):
        sessions_in(data, NOW)


TARGET: Final = Target(
    check,
    words=[
        *(
            b"\x01",
            b"\x02",
            b".",
            b"=",
            b"-",
            b"_",
            b"A",
            b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0",
        ),
        *(b'{"what":"dead","fingerprint":"a"}', b'"tomb":', b'"earlier":[', b"[[", b"null"),
        *(b'[{"fingerprint":"a","ends_at":1e300}]', b"\xff"),
    ],
    seeds=[
        *(bytes([at, 1, 1]) for at in range(len(NAMES))),
        *(bytes([at, 0, 9, 65, 1]) for at in range(len(NAMES))),
    ],
    longest=1024,
)
