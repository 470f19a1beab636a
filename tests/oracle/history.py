"""Histories: what several users ask on several connections, and where the bytes are cut.

One generator serves both worlds: `generate(random.Random(seed))` for runs by seed, and the
strategy `histories`, which draws the same choices from Hypothesis, so that it can shrink them.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from hypothesis import strategies as st

from sidecar.core.record import replace

LARGE: Final = 70_000  # bytes of a request body that does not fit into one window of 64 KiB
SIZES: Final = (0, 5, 300, 300, 4000, LARGE)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    `need` is the route's: "required", "optional" or "none" (answered by the sidecar itself).
    `may_close`: the connection may end behind its answer; `is_last`: it must.
    `kills`: the user's session is dead behind its answer.
    """

    weight: int
    method: str = "GET"
    path: str = "/api/echo"
    framing: str = ""
    version: str = "HTTP/1.1"
    fields: tuple[str, ...] = ()
    need: str = "required"
    may_close: bool = False
    is_last: bool = False
    kills: bool = False


_EXPECT: Final = ("Expect: 100-continue",)

KINDS: Final = {
    "get": Kind(16),
    "head": Kind(3, "HEAD"),
    "slow": Kind(2, path="/api/slow"),
    "pieces": Kind(2, path="/api/pieces"),
    "large": Kind(1, path="/api/large"),
    "page": Kind(2, path="/page/echo", need="optional"),
    "open": Kind(2, path="/open/echo", need="optional"),
    "refused": Kind(1, path="/open/deny", need="optional"),
    "nowhere": Kind(1, path="/nowhere", need="none"),
    "post": Kind(6, "POST", framing="length"),
    "chunked": Kind(1, "POST", framing="chunked", may_close=True),
    "trailers": Kind(1, "POST", framing="trailers", may_close=True),
    "expect": Kind(2, "POST", framing="length", fields=_EXPECT),
    "expect_chunked": Kind(1, "POST", framing="chunked", fields=_EXPECT, may_close=True),
    "early": Kind(2, "POST", path="/api/early", framing="length", may_close=True),
}
KILLING: Final = {
    "logout": Kind(
        2,
        "POST",
        path="/api/logout",
        framing="length",
        fields=("Sec-Fetch-Site: same-origin",),
        need="none",
        kills=True,
    ),
    "deny": Kind(1, path="/api/deny", kills=True),
}
LAST: Final = {
    "close": Kind(1, fields=("Connection: close",), is_last=True),
    "http10": Kind(1, version="HTTP/1.0", is_last=True),
    "malformed": Kind(2, framing="malformed", need="none", is_last=True),
    "websocket": Kind(
        2,
        path="/api/socket",
        framing="frames",
        fields=(
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ),
        is_last=True,
    ),
}
ALL: Final = KINDS | KILLING | LAST
MALFORMED: Final = 3  # ways to be malformed
USERS: Final = ("raw", "authjs", "renewing", "nobody")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: whose, and how it looks.

    `look` 0 repeats the user's header section byte for byte, others order and case it otherwise
    and hold the nonce as well. `blank`: empty lines before it. `held`: the upstream's answer waits
    until so many cuts have passed.
    """

    kind: str
    user: int = 0
    look: int = 0
    size: int = 0
    blank: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """A segment ends before byte `offset` of an ask, and the next one waits.

    `wait`: "turns" of the event loop, as many as `of`; or until the ask `of` is "seen" by the
    upstream, or its answer has "begun" or "ended"; or for the "continue" of the ask itself.
    """

    ask: int
    offset: int
    wait: str = "turns"
    of: int = 3


@dataclass(frozen=True, slots=True)
class Talk:
    """What is sent on one connection. `every`: it is cut behind every so many bytes as well."""

    asks: tuple[Ask, ...]
    cuts: tuple[Cut, ...] = ()
    every: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """Users by their kind, and the connections, which are played at the same time."""

    users: tuple[str, ...]
    talks: tuple[Talk, ...]


def generate(random: Random) -> History:
    """A history; the same for the same state of `random`."""
    shared = [random.choice(USERS[:3]) for _ in range(random.randint(2, 3))]
    if random.random() < 0.3:
        shared.append("nobody")
    users, talks = list(shared), []
    for _ in range(random.choice((1, 1, 2, 3))):
        users.append(random.choice(USERS[:2]))  # may log out: nobody else's connection has it
        talks.append(_talk(random, len(shared), len(users) - 1))
    return History(tuple(users), tuple(talks))


def _talk(random: Random, shared: int, leaver: int) -> Talk:
    asks: list[Ask] = []
    count = random.randint(2, 12)
    user = 0
    while len(asks) < count:
        if random.random() < 0.6:  # else the same again, so that its section is known
            user = random.choice([*range(shared), leaver])
        asks.append(_ask(random, user, may_kill=user == leaver))
    if random.random() < 0.4:
        kind = _choose(random, LAST)
        look = random.randrange(MALFORMED)
        asks.append(Ask(kind, random.randrange(shared), look, 0, random.choice((0, 0, 1))))
    is_small = sum(ask.size for ask in asks) < 3000
    every = random.choice((0, 0, 0, 0, 0, 0, 1, 7)) if is_small else 0
    return Talk(tuple(asks), _cuts(random, asks), every)


def _ask(random: Random, user: int, *, may_kill: bool) -> Ask:
    kind = _choose(random, KINDS | KILLING if may_kill else KINDS)
    is_body = ALL[kind].framing != "" and kind != "logout"
    ask = Ask(
        kind,
        user,
        look=random.choice((0, 0, 0, 0, 1, 2)),
        size=random.choice(SIZES) if is_body else 0,
        blank=random.choice((0, 0, 0, 0, 0, 0, 0, 1, 2)),
        held=random.choice((0, 0, 1, 2)),
    )
    # Of a smaller body nothing is sent to the upstream before its end.
    return replace(ask, size=LARGE) if kind == "early" else ask


def _choose(random: Random, kinds: dict[str, Kind]) -> str:
    return random.choice([name for name, kind in kinds.items() for _ in range(kind.weight)])


def _cuts(random: Random, asks: list[Ask]) -> tuple[Cut, ...]:
    cuts: dict[tuple[int, int], Cut] = {}
    density = random.choice((0.0, 0.3, 0.7, 1.0))
    for index, ask in enumerate(asks):
        if random.random() >= density:
            continue
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            offset = _offset(random)
            waits = [("turns", random.randint(1, 4))]
            if index:
                before = random.choice((index - 1, random.randrange(index)))
                waits = [*waits, ("seen", before), ("begun", before), ("ended", before)]
            if ask.kind == "early":
                waits.append(("begun", index))
            if "expect" in ask.kind:
                waits.append(("continue", index))
            wait, of = random.choice(waits)
            if wait == "continue":
                offset = HEAD_END
            cuts[index, offset] = Cut(index, offset, wait, of)
    return tuple(cuts.values())


def serial(history: History) -> History:
    """The same, but that each request waits for the answer to the one before it."""
    talks = []
    for talk in history.talks:
        waits = [Cut(index, 0, "ended", index - 1) for index in range(1, len(talk.asks))]
        inside = [cut for cut in talk.cuts if not _is_at_start(cut)]
        talks.append(Talk(talk.asks, (*inside, *waits)))
    return History(history.users, tuple(talks))


def _is_at_start(cut: Cut) -> bool:
    return cut.offset == 0


HEAD_END: Final = 1_000_000
"""An offset that stands for the end of the ask's head; beyond it, for bytes behind that end."""


def _offset(random: Random) -> int:
    """At the request's ends and its head's, just beside them, or anywhere.

    Negative ones count from the request's end.
    """
    return random.choice(
        (
            0,
            0,
            random.choice((1, 2, 3)),
            random.choice((-1, -2, -3, -4, -5, -6)),
            HEAD_END + random.choice((-4, -3, -2, -1, 0, 0, 0, 1, 2)),
            random.randrange(200),
        )
    )


histories: Final = st.randoms(use_true_random=False).map(generate)
"""Histories that Hypothesis draws and shrinks."""
