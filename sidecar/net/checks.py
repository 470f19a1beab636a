"""Asks the servers of an upstream now and then whether they are well (`upstreams.….check`).

Each check has a connection of its own, reads the status line of the response and no more.
"""

from __future__ import annotations

import asyncio
import re
from random import uniform
from typing import TYPE_CHECKING, Final

from sidecar.net.causes import of_connection
from sidecar.net.deadline import Within

if TYPE_CHECKING:
    from sidecar.net.members import Member, Members
    from sidecar.policy import HealthCheck, UpstreamAddress

LONGEST: Final = 4096  # bytes of a status line
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


class Checks:
    """Checks every server of one upstream, each interval again."""

    __slots__ = ("_address", "_check", "_members", "_task")

    def __init__(self, address: UpstreamAddress, check: HealthCheck, members: Members) -> None:
        self._address: Final = address
        self._check: Final = check
        self._members: Final = members
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins with the first check."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Ends the checks."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _go_on(self) -> None:
        while True:
            await asyncio.gather(*map(self._ask, self._members.all))
            await asyncio.sleep(self._check.interval * uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def _ask(self, member: Member) -> None:
        """Tells what comes of one check."""
        seconds = self._check.timeout
        try:
            async with Within(seconds):
                line = await self._status_line(member)
        except TimeoutError:
            trouble: str | None = f"no answer within {seconds:g} s"
        except OSError as error:
            trouble = of_connection(error)
        else:
            trouble = self._trouble(line)
        self._members.checked(member, trouble)

    def _trouble(self, line: bytes) -> str | None:
        found = _STATUS_LINE.match(line)
        if found is None:
            return "the answer is not HTTP/1" if line else "closed without an answer"
        status, well = int(found[1]), self._check.statuses
        return None if well.lowest <= status <= well.highest else f"status {status}"

    async def _status_line(self, member: Member) -> bytes:
        """The first line of the response, as far as it came. Raises `OSError`."""
        server = member.server
        if server.path is not None:
            reader, writer = await asyncio.open_unix_connection(server.path, limit=LONGEST)
        else:
            reader, writer = await asyncio.open_connection(
                server.host, server.port, ssl=self._address.tls, limit=LONGEST
            )
        try:
            writer.write(self._check.request)
            return await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError:
            return b"?"
        finally:
            writer.transport.abort()
