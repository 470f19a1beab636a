"""Users who work while a stranger floods the sidecar."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from sidecar.core.cookies import with_set_cookies
from tests.oracle.users import User, user

PAUSE: Final = 0.1  # seconds between two requests of a user
PATIENCE: Final = 10.0  # seconds that a user waits
RENEWED: Final = 3  # one user of so many is renewed all the time


@dataclass(slots=True)
class Seen:
    """What users have seen: how long each request took (seconds), and errors by what they were."""

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """In milliseconds; 0 without any request."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


_logins: Final = count()


def users(number: int) -> Sequence[User]:
    """Users who have just logged in, of whom some have tokens that end soon."""
    return [
        user("renewing" if at % RENEWED == 0 else "authjs", f"user-{next(_logins):06d}")
        for at in range(number)
    ]


async def work(url: str, people: Sequence[User], seconds: float) -> Seen:
    """Has all of them work for so long; each asks at least once."""
    seen = Seen()
    until = time.monotonic() + seconds
    await asyncio.gather(*(_work(url, one, until, seen) for one in people))
    return seen


async def _work(url: str, one: User, until: float, seen: Seen) -> None:
    cookie = one.cookie
    timeout = ClientTimeout(total=PATIENCE)
    async with ClientSession(
        connector=TCPConnector(limit=1), cookie_jar=DummyCookieJar(), timeout=timeout
    ) as session:
        for number in count():
            if number and time.monotonic() >= until:
                return
            nonce = f"{one.name}-{number}"
            began = time.monotonic()
            try:
                cookie = await _ask(session, url, cookie, one, nonce=nonce, seen=seen)
            except (ClientError, TimeoutError, OSError) as error:
                seen.errors[type(error).__name__] += 1
            seen.seconds.append(time.monotonic() - began)
            await asyncio.sleep(PAUSE)


async def _ask(
    session: ClientSession, url: str, cookie: str, one: User, *, nonce: str, seen: Seen
) -> str:
    """Asks once. Returns the Cookie header of the next request."""
    headers = {"Cookie": cookie, "Accept": "application/json"}
    asked = f"{url}/api/x?nonce={nonce}"
    async with session.get(asked, headers=headers, allow_redirects=False) as response:
        body: Any = None
        with suppress(ValueError):
            body = json.loads(await response.read())
        data = body.get("data") if isinstance(body, dict) else None
        if response.status != 200:
            seen.errors[f"{response.status} {_code(body)}"] += 1
        elif data != {"nonce": nonce, "token": one.token}:
            seen.errors["another answer"] += 1
        lines = [line.encode() for line in response.headers.getall("Set-Cookie", [])]
    return with_set_cookies(cookie, lines, time.time()) if lines else cookie


def _code(body: Any) -> str:
    found = body.get("errorData") if isinstance(body, dict) else None
    return str(found.get("code")) if isinstance(found, dict) else ""
