"""What every store promises, and what the backends have in common."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from sidecar.core.errors import StoreUnavailable
from sidecar.net.deadline import Within

LIMIT: Final = 2.0  # seconds that an operation may take
KEPT_MESSAGES: Final = 10_000  # messages kept for subscribers that are away for a while
BATCH: Final = 500  # messages read at once
SLICE: Final = 50  # of them that are delivered before others have their turn
LATE: Final = 10.0  # seconds without a look after which messages may be gone
PING: Final = "ping"  # the key that readiness writes
PING_SECONDS: Final = 10.0
_PAUSE: Final = (0.1, 0.4)  # seconds between attempts to read messages while there is trouble
_LONGEST: Final = 3650 * 86400.0

Receive: TypeAlias = Callable[[bytes], None]
Cancel: TypeAlias = Callable[[], None]
Report: TypeAlias = Callable[[str], None]
"""Called with trouble that no caller waits for, and with its end. The text is fit for a log."""

Position = TypeVar("Position")


class MessageListener(Protocol):
    """Who wants to know that messages cannot be read for a while."""

    def broken(self) -> None:
        """They cannot be read."""

    def resumed(self, *, has_gap: bool) -> None:
        """They are read again, or were not read fast enough. `has_gap`: some are lost."""


class Store(Protocol):
    """Entries that end by themselves, and messages, for every process on the same store.

    Keys are short printable ASCII; they are stored as they are, so never a session's id but its
    fingerprint. Values are up to 64 KiB, messages a few hundred bytes. `seconds` is how long an
    entry lives from now (at least a millisecond, at most ten years).

    Every operation may raise `StoreUnavailable`, and nothing else: the store is down, slow, full,
    read-only or corrupt, or closed. It is raised within the time limit, and it never stands for
    an absent entry. A write that raised it may have happened or not, and is never repeated here;
    the caller that does repeat it must bear both.

    All is forgotten by a store that loses its data (a server without persistence restarts; a
    failover loses the last writes, since Redis replicates asynchronously).
    """

    async def get(self, key: str) -> bytes | None:
        """The value; None if there is none or it has ended."""
        ...

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Writes, whatever there was."""
        ...

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        """Writes several entries, and then publishes the message, in one step.

        If it raises `StoreUnavailable`, any part of that may have happened.
        """
        ...

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        """Writes only if there is nothing: of many at once exactly one gets True."""
        ...

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        """Writes only if the value is `old`: of many at once exactly one gets True."""
        ...

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        """Removes the entry, if it has this value, or none is given. Whether it was there."""
        ...

    async def publish(self, message: bytes) -> None:
        """Notifies every subscriber in every process within a second.

        This process included: its receivers may run before this returns.
        """
        ...

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        """Calls `receive` with each message from now on; the result ends that.

        Messages of one publisher come in order. Trouble is reported and never raised; messages come
        again once it ends. Some may come twice then. None is missing, unless the store has lost it
        or more than `KEPT_MESSAGES` came meanwhile: `listener` is notified of that.
        """
        ...

    async def ping(self) -> None:
        """Returns if writing works, else raises as all do."""
        ...

    async def close(self) -> None:
        """Ends subscriptions and lets go of everything. Never raises."""
        ...


def lifetime(seconds: float) -> float:
    """The seconds that an entry lives, within what every backend can hold."""
    return min(max(seconds, 0.001), _LONGEST)


@asynccontextmanager
async def guarded(limit: float, explain: Callable[[Exception], str]) -> AsyncIterator[None]:
    """Turns all that goes wrong within, and taking longer than `limit`, into `StoreUnavailable`.

    All, since clients of a broken server fail in ways that they do not name; what was raised
    goes no further, because its text may hold what was to be stored.

    A cancellation of the caller is never lost, though clients may lose it: so does
    `asyncio.wait_for` of Python 3.11, if what it waits for ends just then.
    """
    task = asyncio.current_task()
    asked = 0 if task is None else task.cancelling()
    try:
        async with Within(limit):
            yield
    except StoreUnavailable:
        raise
    except TimeoutError:
        raise StoreUnavailable(f"the store did not answer within {limit:g} s") from None
    except Exception as error:
        raise StoreUnavailable(explain(error)) from None
    finally:
        if task is not None and task.cancelling() > asked:
            raise asyncio.CancelledError


class Receivers:
    """Who wants messages in this process. One that raises harms no other."""

    __slots__ = ("_receivers", "_report")

    def __init__(self, report: Report) -> None:
        self._receivers: dict[object, Receive] = {}
        self._report = report

    def add(self, receive: Receive) -> Cancel:
        """Has `receive` called from now on, until the result is called."""
        ticket = object()
        self._receivers[ticket] = receive

        def cancel() -> None:
            self._receivers.pop(ticket, None)

        return cancel

    def clear(self) -> None:
        """Takes all off."""
        self._receivers.clear()

    def deliver(self, message: bytes) -> None:
        """Calls them in the order in which they came."""
        for ticket in tuple(self._receivers):
            receive = self._receivers.get(ticket)
            if receive is None:
                continue
            try:
                receive(message)
            except Exception as error:
                self._report(f"a receiver of messages failed: {type(error).__name__}")


class Feed(Generic[Position]):
    """Reads messages in the background, from a position on, through whatever trouble.

    `latest` gives the position behind the last message; `read` waits a while for messages behind
    a position and gives them with the next one; `resume` says where to read on after trouble;
    `is_gone` whether messages behind a position are kept no longer.
    """

    __slots__ = (
        "_beginning",
        "_closed",
        "_is_gone",
        "_latest",
        "_listeners",
        "_read",
        "_receivers",
        "_report",
        "_resume",
        "_task",
    )

    def __init__(
        self,
        *,
        beginning: Position,
        latest: Callable[[], Awaitable[Position]],
        read: Callable[[Position], Awaitable[tuple[Position, list[bytes]]]],
        resume: Callable[[Position], Position],
        is_gone: Callable[[Position], Awaitable[bool]],
        report: Report,
    ) -> None:
        self._beginning: Position = beginning
        self._latest = latest
        self._read = read
        self._resume = resume
        self._is_gone = is_gone
        self._report = report
        self._receivers = Receivers(report)
        self._listeners: list[MessageListener] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        """Messages published after this has returned are received.

        If trouble hides the position, reading begins with all that is kept:
        rather messages from before than one too few.
        """
        cancel = self._receivers.add(receive)
        if listener is not None:
            self._listeners.append(listener)
        if self._task is None and not self._closed:
            started = asyncio.Event()
            self._task = asyncio.create_task(self._run(started))
            await started.wait()
        return cancel

    async def close(self) -> None:
        """No message is delivered from now on."""
        self._closed = True
        self._receivers.clear()
        self._listeners.clear()
        # Again and again, since `asyncio.wait_for` of Python 3.11 may lose a cancellation.
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.05)

    async def _run(self, started: asyncio.Event) -> None:
        position, in_trouble = self._beginning, False
        try:
            position = await self._latest()
        except StoreUnavailable as trouble:
            in_trouble = True
            self._report(f"messages cannot be read: {trouble.detail}")
        finally:
            started.set()
        reached, loop = position, asyncio.get_running_loop()
        read_at = loop.time()
        while not self._closed:
            try:
                position, messages = await self._read(position)
                # If reading has not kept up, messages that it missed may be gone.
                is_late = in_trouble or len(messages) >= BATCH or loop.time() - read_at > LATE
                has_gap = is_late and await self._is_gone(reached)
            except StoreUnavailable as trouble:
                if not in_trouble:
                    in_trouble, position = True, self._resume(reached)
                    self._report(f"messages cannot be read: {trouble.detail}")
                    for one in self._listeners:
                        one.broken()
                # A random pause, so that processes do not come back to a server all at once.
                await asyncio.sleep(random.uniform(*_PAUSE))  # noqa: S311 - no secret
                continue
            if in_trouble or has_gap:
                self._report("messages are read again" + "; some were lost" * has_gap)
                for one in self._listeners:
                    one.resumed(has_gap=has_gap)
            in_trouble, reached, read_at = False, position, loop.time()
            for number, message in enumerate(messages):
                self._receivers.deliver(message)
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)  # others have their turn
