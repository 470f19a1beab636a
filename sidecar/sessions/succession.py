"""Which refresh token was exchanged for which: in the store, and in this process besides.

In the store, each under the keyed hash of a refresh token:

- `next:` the tokens that it was exchanged for, until `grace` after a request has presented them;
  `follows` in it has digests of access tokens that were exchanged since an upstream had rejected
  them: who presents one of these is led on, however long it would have been valid;
- `prev:` the tokens before it, the last one first, unless a request has presented a later one;
- `used:` that it was sent to the provider (`sent`), or exchanged for another one (`done`). This is
  kept as long as the token could still be presented: until a request has presented a later one, and
  for `RETIRED` seconds more, since cookies of one browser are replaced together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Final

import msgspec

from sidecar.core.errors import RefreshSuperseded, RefreshUnavailable
from sidecar.core.record import replace
from sidecar.core.token_set import TokenSet, from_bytes, to_bytes
from sidecar.net.store import Store
from sidecar.net.store.outbox import Write
from sidecar.sessions.bounds import Latest
from sidecar.sessions.entries import read_entry

RECENT: Final = 10_000  # exchanges that are remembered here for a store that loses its data
SPENT: Final = 50_000  # spent refresh tokens that are remembered besides
DAY: Final = 86400.0
USED: Final = 30 * DAY  # how long it is remembered that a refresh token is spent
RETIRED: Final = 3600.0  # the same of one of which a successor has been presented
STEPS: Final = 16  # generations that a late caller may be behind

_SENT: Final = b"sent"
_DONE: Final = b"done"


class _Exchanged(msgspec.Struct, frozen=True):
    """Tokens, and what they were exchanged for: `old` is None if another process did it.

    `until` is until when the old ones lead to the new ones (Unix seconds), once the new ones have
    been presented. `follows` are digests of rejected access tokens.
    """

    old: TokenSet | None
    new: TokenSet
    until: float | None = None
    follows: tuple[str, ...] = ()

    @property
    def rotates(self) -> bool:
        """Whether the old refresh token is spent."""
        return self.old is None or self.old.refresh_token != self.new.refresh_token

    def leads(self, now: float) -> bool:
        """Whether the old tokens lead to the new ones."""
        return self.until is None or now < self.until


class _Follows(msgspec.Struct, frozen=True):
    """What an entry of a successor has besides the tokens, if another version did not write it."""

    follows: tuple[str, ...] = ()


class Succession:
    """The generations of tokens. Every `async` method raises `StoreUnavailable`.

    A *name* is the keyed hash of a refresh token. `grace` is for how many seconds old tokens lead
    to the new ones, once the new ones were presented.
    """

    def __init__(
        self,
        store: Store,
        *,
        hash_of: Callable[[str], str],
        now: Callable[[], float],
        grace: float,
    ) -> None:
        self._store: Final = store
        self._hash_of: Final = hash_of
        self._now: Final = now
        self._grace: Final = grace
        self._unsaved: Final[dict[str, _Exchanged]] = {}  # that the store has not taken yet
        # What this process exchanged, the oldest first.
        self._recent: Final[OrderedDict[str, _Exchanged]] = OrderedDict()
        self._spent: Final = Latest[None](SPENT)  # refresh tokens that are known to be spent

    def name_of(self, tokens: TokenSet) -> str:
        """Returns the name of a refresh token."""
        assert tokens.refresh_token is not None
        return self._hash_of(tokens.refresh_token)

    # -- questions --------------------------------------------------------------------------------

    async def newest(self, tokens: TokenSet) -> TokenSet:
        """Returns the last tokens that these were exchanged for, or these themselves."""
        for _ in range(STEPS):
            successor = await self.successor(self.name_of(tokens))
            if successor is None:
                return tokens
            if successor.refresh_token == tokens.refresh_token:
                return successor  # the provider does not rotate
            tokens = successor
        return tokens

    async def successor(self, name: str) -> TokenSet | None:
        """Returns what a refresh token was exchanged for."""
        unsaved = self._unsaved.get(name)
        if unsaved is not None:
            return unsaved.new
        stored = await self.stored(name)
        if stored is None:
            return await self._forgotten(name)
        return read_entry(stored, _successor)

    async def leads(self, tokens: TokenSet) -> bool:
        """Returns whether the access token was rejected, and others have taken its place.

        Such a token would be rejected again.
        """
        name, digest = self.name_of(tokens), _digest(tokens.access_token)
        unsaved = self._unsaved.get(name)
        follows = _follows(await self.stored(name)) if unsaved is None else unsaved.follows
        return digest in follows

    async def stored(self, name: str) -> bytes | None:
        """Returns the entry of a successor, as far as the store has one."""
        return await self._store.get(f"next:{name}")

    async def _forgotten(self, name: str) -> TokenSet | None:
        """A successor that this process knows of, after the store has lost its data."""
        exchanged = self._recent.get(name)
        if exchanged is None or await self._store.get(f"used:{name}") is not None:
            return None
        await self._restore(name, exchanged)
        return exchanged.new if exchanged.leads(self._now()) else None

    async def use(self, name: str) -> bytes | None:
        """Returns what the store knows of a refresh token's use, for `check_use`.

        To be asked before `successor`: that one is written first, so a token that another process
        exchanges just then has one of both at least.
        """
        return await self._store.get(f"used:{name}")

    def check_use(self, name: str, use: bytes | None, *, is_good: bool) -> None:
        """Returns if a refresh token without a successor may be sent.

        `is_good`: its access token still serves. Raises `RefreshSuperseded` and
        `RefreshUnavailable`.
        """
        exchanged = self._recent.get(name)
        is_spent = name in self._spent or (exchanged is not None and exchanged.rotates)
        if use == _DONE or is_spent:
            raise RefreshSuperseded
        if use == _SENT and is_good:
            raise RefreshUnavailable("an answer was lost, and the token is still good")

    # -- one exchange -----------------------------------------------------------------------------

    async def mark_sent(self, name: str, *, is_proven: bool) -> None:
        """Writes that a refresh token is being sent to the provider.

        Anyone can invent tokens, and a provider may leave those without a response. So an
        unproven one is remembered for a shorter time.
        """
        await self._store.put(f"used:{name}", _SENT, USED if is_proven else RETIRED)

    async def unmark(self, name: str) -> None:
        """The token was not sent, or has been answered without a renewal."""
        await self._store.remove(f"used:{name}", _SENT)

    def note(self, name: str, old: TokenSet, new: TokenSet, rejected: str | None = None) -> Write:
        """Notes a successor, which serves here at once. Returns what writes it to the store.

        `rejected` is the access token that an upstream has refused.
        """
        is_rejected = rejected == old.access_token != new.access_token
        follows: tuple[str, ...] = (_digest(old.access_token),) if is_rejected else ()
        before = self._recent.get(name)
        if before is not None and not before.rotates:
            follows = _newest_of(before.follows, follows, new)
        exchanged = _Exchanged(old, new, follows=follows)
        self._unsaved[name] = exchanged
        self._remember(name, exchanged)
        return partial(self._write, name, old, exchanged)

    def is_unsaved(self, name: str) -> bool:
        """Returns whether the store has not taken a successor yet."""
        return name in self._unsaved

    def saved(self, name: str) -> None:
        """The store has taken a successor."""
        self._unsaved.pop(name, None)

    async def _write(self, name: str, old: TokenSet, exchanged: _Exchanged) -> None:
        new = exchanged.new
        if new.refresh_token == old.refresh_token:
            await self._write_again(name, exchanged, await self.stored(name))
            await self._store.remove(f"used:{name}")
            return
        before = _names(await self._store.get(f"prev:{name}") or b"")
        await self._store.put(f"next:{name}", _entry(new, exchanged.follows), DAY)
        await self._store.put(f"used:{name}", _DONE, USED)
        line = " ".join((name, *before[: STEPS - 1]))
        await self._store.put(f"prev:{self.name_of(new)}", line.encode(), DAY)
        for one in before[STEPS - 1 :]:
            await self._retire(one)  # nothing leads on from there

    async def _write_again(self, name: str, exchanged: _Exchanged, before: bytes | None) -> None:
        """A refresh token that does not rotate leads all its access tokens to the newest one."""
        follows = _newest_of(_follows(before), exchanged.follows, exchanged.new)
        await self._store.put(f"next:{name}", _entry(exchanged.new, follows), DAY)

    # -- the end of old tokens --------------------------------------------------------------------

    async def presented(self, tokens: TokenSet) -> bool:
        """Notes that tokens were presented: those before them lead on for `grace` from now only.

        Returns whether there are any, so that the provider has handed these out.
        """
        name = self.name_of(tokens)
        before = await self._store.get(f"prev:{name}")
        if before is None:
            return False
        for number, old in enumerate(_names(before)):
            if number == 0 and old not in self._recent:
                self._remember(old, _Exchanged(None, tokens))
            await self._retire(old)
        await self._store.remove(f"prev:{name}")
        return True

    async def _retire(self, old: str) -> None:
        """A token whose successor is in use leads on for `grace`, and is soon presented no more."""
        exchanged = self._recent.get(old)
        if exchanged is not None and exchanged.until is None:
            self._recent[old] = replace(exchanged, until=self._now() + self._grace)
        successor = await self.stored(old)
        if successor is not None:
            await self._store.put(f"next:{old}", successor, self._grace)
        await self._store.replace(f"used:{old}", _DONE, _DONE, self._grace + RETIRED)
        await self._store.remove(f"prev:{old}")

    def _remember(self, name: str, exchanged: _Exchanged) -> None:
        """What this process knows, for a store that loses its data; bounded in number."""
        self._recent[name] = exchanged
        first = next(iter(self._recent))
        if len(self._recent) > RECENT or not self._recent[first].leads(self._now()):
            self._forget(first)

    def _forget(self, name: str) -> None:
        """The successor of a spent token is needed no longer, but the token stays spent."""
        if self._recent.pop(name).rotates:
            self._spent.put(name, None)

    # -- a store that has lost its data -----------------------------------------------------------

    async def restore(self) -> None:
        """Writes once more what is known of exchanged tokens."""
        for name, exchanged in tuple(self._recent.items()):
            await self._restore(name, exchanged)

    async def _restore(self, name: str, exchanged: _Exchanged) -> None:
        now, new = self._now(), exchanged.new
        if not exchanged.rotates:
            stored = await self.stored(name)
            if stored is None or read_entry(stored, _successor).generation < new.generation:
                await self._write_again(name, exchanged, stored)
        elif exchanged.until is None and exchanged.old is not None:
            await self._write(name, exchanged.old, exchanged)
        else:
            if exchanged.until is not None and now < exchanged.until:
                entry = _entry(new, exchanged.follows)
                await self._store.put(f"next:{name}", entry, exchanged.until - now)
            await self._store.put(f"used:{name}", _DONE, self._grace + RETIRED)


def _names(stored: bytes) -> list[str]:
    """The names in an entry of `prev:`. What is none leads nowhere."""
    return stored.decode("ascii", "ignore").split()


def _successor(stored: bytes) -> TokenSet:
    """The tokens in an entry of `next:`, which are renewed in their turn."""
    tokens = from_bytes(stored)
    if tokens.refresh_token is None:
        raise ValueError("it has no refresh token")
    return tokens


def _digest(token: str) -> str:
    """Stands for a token in an entry, which is encrypted, and of tokens that nobody can guess."""
    return sha256(token.encode()).hexdigest()[:32]


def _newest_of(before: tuple[str, ...], follows: tuple[str, ...], new: TokenSet) -> tuple[str, ...]:
    """Digests of rejected tokens, without that of a token which was handed out once more."""
    digests = dict.fromkeys((*before, *follows))
    digests.pop(_digest(new.access_token), None)
    return tuple(digests)[-STEPS:]


def _entry(new: TokenSet, follows: tuple[str, ...]) -> bytes:
    """The entry of a successor; `from_bytes` reads the tokens in it."""
    if not follows:
        return to_bytes(new)
    return msgspec.json.encode({**msgspec.to_builtins(new), "follows": follows})


def _follows(entry: bytes | None) -> tuple[str, ...]:
    """The digests in an entry."""
    if entry is None:
        return ()
    try:
        return msgspec.json.decode(entry, type=_Follows).follows
    except ValueError:
        return ()
