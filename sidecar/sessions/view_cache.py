"""The views of Cookie headers that one process remembers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from sidecar.core.credential import Reading
from sidecar.core.formats.login_session import LoginReading
from sidecar.core.view import Key, OpenedSession, SessionView
from sidecar.sessions.names import SessionNames

CACHE_BYTES: Final = 16 * 1024 * 1024  # of headers with a sealed session; of others as much
ENTRY_OVERHEAD: Final = 1024  # bytes of an entry besides its Cookie value, stored several times
MAX_HEADERS: Final = 32  # of one session or token: what is learned of it changes each of them

_Index: TypeAlias = dict[str, dict[Key, None]]  # the keys in the order in which they came


class ViewCache:
    """Views by Cookie header, bounded in bytes, and in number for each session and token.

    The oldest ones make room. Headers that a stranger could have made up have a room of their own,
    so that they displace no sealed session. Views are found by header, by fingerprint, by the name
    of a token, and by the name of the bearer token that they inject.
    """

    __slots__ = ("__weakref__", "_bearers", "_holders", "_keys", "_names", "_rooms", "_views")

    def __init__(self, names: SessionNames) -> None:
        self._names: Final = names
        self._views: Final[dict[Key, SessionView]] = {}
        self._rooms: Final = (_Room(), _Room())  # any client's headers, and those with a seal
        self._keys: Final[_Index] = {}  # fingerprint → where it is remembered
        self._holders: Final[_Index] = {}  # a token's name → where it was presented
        self._bearers: Final[dict[str, Key]] = {}  # a bearer's name → where it is remembered

    def __len__(self) -> int:
        return len(self._views)

    def get(self, key: Key) -> SessionView | None:
        """Returns the view of a header, if it is remembered."""
        return self._views.get(key)

    def with_bearer(self, name: str) -> SessionView | None:
        """Returns the view whose bearer token has this name, if it is remembered."""
        key = self._bearers.get(name)
        return None if key is None else self._views.get(key)

    def of_session(self, fingerprint: str) -> Iterator[SessionView]:
        """Yields the views that hold a session, the last one that came first."""
        for key in reversed(self._keys.get(fingerprint, {})):
            yield self._views[key]

    def every(self) -> tuple[SessionView, ...]:
        """Returns all views."""
        return tuple(self._views.values())

    def is_current(self, view: SessionView) -> bool:
        """Returns whether a view is what its Cookie header would be given now."""
        return view.key is not None and self._views.get(view.key) is view

    # -- changes ----------------------------------------------------------------------------------

    def put(self, key: Key, view: SessionView) -> SessionView:
        """Remembers a view in the place of the former one. Returns it."""
        before = self._views.get(key)
        if before is not None and _is_found_alike(before, view):
            self._views[key] = view
            return view
        self.forget(key)
        self._views[key] = view
        room = self._rooms[_has_seal(view)]
        room.keys[key] = None
        room.bytes += _cost(view)
        for index, name in self._entries(view):
            keys = index.setdefault(name, {})
            keys[key] = None
            if len(keys) > MAX_HEADERS:
                self.forget(next(iter(keys)))
        if view.bearer is not None:
            self._bearers[view.bearer] = key
        while room.bytes > CACHE_BYTES:
            self.forget(next(iter(room.keys)))
        return view

    def forget(self, key: Key) -> None:
        """Forgets the view of a header."""
        view = self._views.pop(key, None)
        if view is None:
            return
        room = self._rooms[_has_seal(view)]
        del room.keys[key]
        room.bytes -= _cost(view)
        for index, name in self._entries(view):
            keys = index.get(name)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del index[name]
        if view.bearer is not None and self._bearers.get(view.bearer) == key:
            del self._bearers[view.bearer]

    def invalidate(self, fingerprint: str) -> None:
        """Forgets every header that a session was presented in."""
        for key in tuple(self._keys.get(fingerprint, ())):
            self.forget(key)

    def invalidate_all(self, names: Iterable[str]) -> None:
        """Forgets every header with a session, or a token, of one of these names."""
        keys: set[Key] = set()
        for name in names:
            keys.update(self._keys.get(name, ()))
            keys.update(self._holders.get(name, ()))
        for key in keys:
            self.forget(key)

    def clear(self) -> None:
        """Forgets every header."""
        for index in (self._views, self._keys, self._holders, self._bearers):
            index.clear()
        for room in self._rooms:
            room.keys.clear()
            room.bytes = 0

    def _entries(self, view: SessionView) -> Iterator[tuple[_Index, str]]:
        for session in view.sessions:
            yield self._keys, session.fingerprint
            for name in self._names.pieces(session.reading):
                yield self._holders, name

    def known(self, fingerprint: str) -> OpenedSession | None:
        """Returns a session with the newest tokens that it was presented with."""
        presented = (view.session(fingerprint) for view in self.of_session(fingerprint))
        return max(filter(None, presented), key=_generation, default=None)


def _generation(session: OpenedSession) -> int:
    tokens = session.reading.tokens
    return 0 if tokens is None else tokens.generation


class _Room:
    """The headers of one kind, the oldest first, and their bytes."""

    __slots__ = ("bytes", "keys")

    def __init__(self) -> None:
        self.keys: OrderedDict[Key, None] = OrderedDict()  # the oldest is found at once
        self.bytes = 0


def _is_found_alike(one: SessionView, other: SessionView) -> bool:
    """Whether two views of a header are of the same sessions with the same bearer."""
    return one.sessions is other.sessions and one.bearer == other.bearer


def _has_seal(view: SessionView) -> bool:
    """Whether a stranger cannot have made up all that is presented."""
    return any(one.is_sealed for one in view.sessions)


def _cost(view: SessionView) -> int:
    """About the bytes of an entry: what was opened is in the cookie, or was loaded besides."""
    cookie = b"" if view.key is None else view.key[0]
    loaded = sum(_loaded(one.reading) for one in view.sessions)
    return 4 * len(cookie) + loaded + ENTRY_OVERHEAD * (1 + len(view.sessions))


def _loaded(reading: Reading) -> int:
    """The bytes of a session besides its cookie: its token, and what the store has of it."""
    bearer = 3 * len(reading.token or "")
    if not isinstance(reading, LoginReading) or reading.session is None:
        return bearer
    tokens = reading.session.tokens
    return bearer + len(tokens.id_token or "") + len(tokens.refresh_token or "")
