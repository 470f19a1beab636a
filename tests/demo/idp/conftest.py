"""Providers and relying parties on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from sidecar.demo.idp import running_idp
from tests.demo.idp.party import BYE, CALLBACK, Clock, Party, StartParty


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def party(clock: Clock) -> AsyncIterator[StartParty]:
    """`await party(**options)` starts a provider and gives a browser with a client of it.

    `browser_of=` another party gives a second browser at the same provider.
    """
    async with AsyncExitStack() as stack:

        async def start(*, browser_of: Party | None = None, **options: Any) -> Party:
            basis = {
                "signing_algorithm": "ES256",  # its keys are made at once
                "redirect_uris": [CALLBACK],
                "post_logout_redirect_uris": [BYE],
            }
            if browser_of is None:
                running = running_idp(clock=clock, **{**basis, **options})
                idp = await stack.enter_async_context(running)
            else:
                idp = browser_of.idp
            jar = aiohttp.CookieJar(unsafe=True)  # which here means: of IP addresses too
            http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
            return Party(idp, http)

        yield start
