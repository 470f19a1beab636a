"""Serving the provider on the loopback interface: `async with running_idp() as idp: …`."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from aiohttp import web

from sidecar.core.record import replace
from sidecar.demo.idp.demo_provider import Clock, DemoProvider
from sidecar.demo.idp.grants import mint
from sidecar.demo.idp.options import EVERYBODY, OFFLINE_ACCESS, OPENID, Options, RegisteredClient
from sidecar.demo.idp.pages import WARNING
from sidecar.demo.idp.records import Introspection, Stats
from sidecar.demo.idp.web import Site

_ADDRESSES: Final = {
    "127.0.0.1": ((socket.AF_INET, "127.0.0.1"),),
    "localhost": ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")),
}
_NO_SUCH_ADDRESS: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_DRAIN_SECONDS: Final = 0.3

_log = logging.getLogger(__name__)


class RunningIdp:
    """A provider that serves. What it was started with is in `options`."""

    def __init__(self, provider: DemoProvider, site: Site) -> None:
        self._provider = provider
        self._site = site

    @property
    def issuer(self) -> str:
        """The issuer's URL, which every endpoint's begins with."""
        return self._provider.issuer

    @property
    def options(self) -> Options:
        """Options and switches as they stand."""
        return self._provider.options

    @property
    def client_id(self) -> str:
        return self.options.client_id

    @property
    def client_secret(self) -> str:
        """Empty for a public client."""
        return self.options.client_secret or ""

    @property
    def stats(self) -> Stats:
        """The counters as they stand; a copy."""
        return replace(self._provider.stats)

    def set(self, **switches: Any) -> None:
        """Turns switches, all or none. Raises `ValueError` for an unknown one or a bad value."""
        self._provider.set(**switches)

    def register(self, client: RegisteredClient) -> None:
        """Adds a client, or replaces the one of that `client_id`."""
        self._provider.register(client)

    def verify(self, access_token: str) -> Introspection:
        """What a resource server learns of an access token: live, expired, revoked or unknown."""
        return self._provider.verify(access_token)

    def tokens(
        self, subject: str = "alice", *, scope: str = f"{OPENID} {OFFLINE_ACCESS}"
    ) -> dict[str, Any]:
        """A token answer for the first client, as a login of that user would have given.

        It has a session of its own, in no browser. Raises `ValueError` for an unknown user.
        """
        return mint(self._provider, subject, tuple(scope.split()))

    def rotate_key(self) -> None:
        """Signs with a new key from now on; the old one stays published for `key_overlap`."""
        self._provider.rotate_key()

    def revoke_grants(self, subject: str = EVERYBODY) -> int:
        """Ends every grant of a user, with all its tokens. Returns how many there were."""
        return self._provider.state.revoke_grants(subject)

    async def end_sessions(self, subject: str = EVERYBODY) -> None:
        """Ends the sessions of a user; returns when their logout tokens have been sent."""
        await self._site.deliver(self._provider.end_all(subject))

    def reset_stats(self) -> None:
        """Counts from zero."""
        self._provider.stats = Stats()


@asynccontextmanager
async def running_idp(*, clock: Clock = time.time, **options: Any) -> AsyncIterator[RunningIdp]:
    """Serves a provider until the block ends. For demos and tests only.

    `options` are the fields of `Options`; `clock` gives Unix seconds. Raises `ValueError` for bad
    options, and `OSError` where the port cannot be had.
    """
    chosen = Options.model_validate(options)
    async with AsyncExitStack() as stack:
        sockets = _bind(stack, chosen)
        port = sockets[0].getsockname()[1]
        provider = DemoProvider(f"http://{chosen.host}:{port}", chosen, clock)
        site = Site(provider)
        runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=_DRAIN_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for one in sockets:
            await web.SockSite(runner, one).start()
        _log.warning("%s %s", provider.issuer, WARNING)
        yield RunningIdp(provider, site)


def _bind(stack: AsyncExitStack, options: Options) -> list[socket.socket]:
    """Listening sockets of one port; a machine without IPv6 does without that one."""
    (family, address), *others = _ADDRESSES[options.host]
    bound = [stack.enter_context(socket.create_server((address, options.port), family=family))]
    port: int = bound[0].getsockname()[1]
    for family, address in others:
        try:
            more = socket.create_server((address, port), family=family)
        except OSError as error:
            if error.errno not in _NO_SUCH_ADDRESS:
                raise
        else:
            bound.append(stack.enter_context(more))
    return bound
