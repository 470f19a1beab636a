"""An entry of the store that another version wrote is read, or is `StoreUnavailable`; never absent.

An input says the kind of the entry, and what stands there behind the seal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from sidecar.core.errors import RefreshSuperseded, RefreshUnavailable, StoreUnavailable
from sidecar.core.formats.login_session import Lifetimes, LoginSession, login_store_source
from sidecar.core.oidc.session_index import SessionIndex
from sidecar.core.tickets import Signer
from sidecar.core.token_set import TokenSet
from sidecar.net.store.memory import MemoryStore
from sidecar.net.store.sealed_store import SealedStore
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.succession import Succession
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import NOW, OWN, login

SIGNER: Final = Signer(OWN)
TOKENS: Final = TokenSet("a", "r", NOW + 60, NOW)
NEW: Final = TokenSet("b", "s", NOW + 90, NOW)
SESSION: Final = LoginSession.unpacked(login("t", "sidecar"))
INDEX: Final = SessionIndex("https://idp.example.com", OWN)
_LOOP: Final = asyncio.new_event_loop()


class _World:
    """What reads the store, which has nothing but the entry in question."""

    def __init__(self) -> None:
        self.store = SealedStore(MemoryStore(lambda _: None), OWN, lambda _: None)
        self.succession = Succession(
            self.store, hash_of=SIGNER.fingerprint, now=lambda: NOW, grace=30.0
        )
        self.records = SessionRecords(self.store, lambda: NOW)
        self.name = self.succession.name_of(TOKENS)
        login_policy: Any = SimpleNamespace(
            index=INDEX,
            source=login_store_source(cookie="sidecar", lifetimes=Lifetimes(3600.0, 86400.0)),
            is_stored=True,
        )
        self.logins = StoredLogins(login_policy, self.store, lambda: NOW)


async def _next(world: _World) -> None:
    found = await world.succession.successor(world.name)
    assert found is not None, "a successor is taken for absent"
    newest = await world.succession.newest(TOKENS)
    assert found in (newest, found)


async def _prev(world: _World) -> None:
    assert await world.succession.presented(TOKENS)
    await world.succession.note(world.name, TOKENS, NEW)()


async def _used(world: _World) -> None:
    with contextlib.suppress(RefreshSuperseded, RefreshUnavailable):
        use = await world.succession.use(world.name)
        world.succession.check_use(world.name, use, is_good=True)


async def _dead(world: _World) -> None:
    assert await world.records.death(world.name) is not None, "a dead session is taken for alive"


async def _alias(world: _World) -> None:
    assert isinstance(await world.records.alias(world.name), str)


async def _own(world: _World) -> None:
    found = await world.logins.get(SESSION.fingerprint)
    assert found is not None, "a session is taken for absent"
    await world.logins.change(SESSION.fingerprint, lambda one: one.touched(NOW))
    await world.logins.restore(SESSION)


async def _index(world: _World) -> None:
    await world.logins.begin(SESSION)  # is the way out of what cannot be read
    found = await world.logins.find(SESSION.subject, None)
    assert SESSION.fingerprint in {one.fingerprint for one in found}


async def _found(world: _World) -> None:
    await world.logins.find(SESSION.subject, None)


async def _jti(world: _World) -> None:
    await world.logins.is_used("j", NOW + 60)


KINDS: Final[tuple[tuple[str, Callable[[_World], Awaitable[None]]], ...]] = (
    ("next:{name}", _next),
    ("prev:{name}", _prev),
    ("used:{name}", _used),
    ("dead:{name}", _dead),
    ("alias:{name}", _alias),
    ("own:{own}", _own),
    ("{sub}", _index),
    ("{sub}", _found),
    ("{jti}", _jti),
)


def check(data: bytes) -> None:
    draw = Draw(data)
    key, read = draw.pick(KINDS)
    _LOOP.run_until_complete(_reads(key, read, draw.rest()))


async def _reads(key: str, read: Callable[[_World], Awaitable[None]], value: bytes) -> None:
    world = _World()
    (sub,) = INDEX.sought(SESSION.subject, None)
    names = {"name": world.name, "own": SESSION.fingerprint, "sub": sub, "jti": INDEX.replayed("j")}
    await world.store.put(key.format(**names), value, 60.0)
    try:
        await read(world)
    except StoreUnavailable:
        assert read is not _index, "a login is no way out"


TARGET: Final = Target(
    check,
    words=[
        *(b'{"access_token":"a"', b'"refresh_token":"r"', b'"expires_at":1', b'"generation":3'),
        *(b'{"what":"dead","fingerprint":"f"', b'"tomb":{"since":1,"until":2}', b'"proof":"none"'),
        *(b'"earlier":["a"]', b'[{"fingerprint":"f","ends_at":1800000100,"has_sid":false}]'),
        *(b"sent", b"done", b"begun", b"null", b"1e400", b"-1", b"[", b"]", b"{", b"}", b",", b":"),
        *(
            b"\xff",
            b"\xed\xa0\x80",
            b" ",
            b"\n",
            b'"id":',
            b'"tokens":{',
            b'"used_at":',
            b'"more":',
        ),
    ],
    seeds=[
        b"\0" + msgspec.json.encode(TOKENS),
        b"\1abc def ghi",
        b"\2sent",
        b'\3{"what":"dead","fingerprint":"f","tomb":{"since":1,"until":1800000900}}',
        b"\3{}",
        b"\4fingerprint",
        b"\4\xff",
        b"\5" + SESSION.to_bytes(),
        b'\6[{"fingerprint":"f","ends_at":1800000100}]',
        b'\7[{"fingerprint":"f","ends_at":1800000100}]',
        b"\6" + b"[" * 1500,
        b"\0" + b'{"access_token":"a","more":' + b"[" * 1500,
        b"\10begun",
    ],
    longest=2048,
)
