"""Logins at a provider, the rehearsal one; what else runs beside a contender; oauth2-proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from threading import Thread
from typing import Final

from sidecar.core.record import replace
from sidecar.demo.idp import RunningIdp, running_idp
from tests.bench.children import child
from tests.bench.contenders import Contender, program
from tests.bench.cookies import HEADER_BYTES
from tests.bench.faults import BenchError
from tests.bench.site import HOST, Place, Session, await_port
from tests.compare import site as compare
from tests.compare.program import MissingProgram, build, built

LIFETIME: Final = 86400
"""Seconds that an access token lives: no renewal falls into a measurement."""


# -- beside a contender -------------------------------------------------------------------------


def provider(stack: ExitStack, place: Place) -> Place:
    """Runs the provider in a thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    stack.callback(loop.close)
    stack.callback(thread.join)
    stack.callback(loop.call_soon_threadsafe, loop.stop)
    opened = AsyncExitStack()
    idp = asyncio.run_coroutine_threadsafe(_open(opened, place.port), loop).result()
    stack.callback(lambda: asyncio.run_coroutine_threadsafe(opened.aclose(), loop).result())
    return replace(place, idp=idp)


async def _open(stack: AsyncExitStack, port: int) -> RunningIdp:
    front = f"http://{HOST}:{port}"
    return await stack.enter_async_context(
        running_idp(
            host="localhost",
            client_id=compare.CLIENT_ID,
            client_secret=compare.CLIENT_SECRET,
            redirect_uris=[f"{front}/auth/callback", f"{front}/oauth2/callback"],
            access_token_lifetime=LIFETIME,
            offline_access=True,
            sign_in_as="alice",
        )
    )


def provider_and_redis(stack: ExitStack, place: Place) -> Place:
    """Runs the provider, and a Redis that keeps nothing on disk, on the port of `redis`."""
    address = ["--bind", HOST, "--port", str(place.redis), "--dir", str(place.folder)]
    command = [program("redis-server"), *address, "--save", "", "--appendonly", "no"]
    log = stack.enter_context((place.folder / "redis.log").open("wb"))
    stack.enter_context(child(command, log))
    await_port(place.redis)
    return provider(stack, place)


# -- logging in ---------------------------------------------------------------------------------


def logged_in(contender: compare.Contender) -> Callable[[Place], Session]:
    """Logs a user in, as a browser does, at what runs in that place."""

    def session(place: Place) -> Session:
        await_port(place.port)
        assert place.idp is not None
        verify = place.idp.verify
        cookies = asyncio.run(_cookies(contender, place, place.idp))
        own = "; ".join(f"{name}={value}" for name, value in cookies.items()) + "; "
        others = "seen="
        others += "x" * (HEADER_BYTES - len(own) - len(others))
        return Session(own + others, others, lambda token: verify(token).is_live)

    return session


async def _cookies(
    contender: compare.Contender, place: Place, idp: RunningIdp
) -> Mapping[str, str]:
    ports = compare.Ports(place.port, place.site.upstream, idp.issuer)
    url = f"http://{HOST}:{place.port}"
    site = compare.Site(contender, url, idp, compare.Api(idp), place.folder, ports)
    async with site.user() as browser:
        if not browser.has_session:
            raise BenchError(f"{contender.name} sets no session cookie at a login")
        return browser.cookies


# -- oauth2-proxy -------------------------------------------------------------------------------


CLIENT_ID, CLIENT_SECRET = compare.CLIENT_ID, compare.CLIENT_SECRET


def _command(place: Place) -> Sequence[str]:
    assert place.idp is not None
    ports = compare.Ports(place.port, place.site.upstream, place.idp.issuer)
    return _oauth2_proxy().command(ports, place.folder)


def _oauth2_proxy() -> compare.Contender:
    return compare.oauth2_proxy(built(), refresh_age=LIFETIME // 2)


def _build() -> Path:
    try:
        return build()
    except MissingProgram as error:
        raise BenchError(str(error)) from error


OAUTH2_PROXY: Final = Contender(
    "session",
    _command,
    missing=lambda: None if built().exists() else "python tests/bench --build",
    build=_build,
    token="x-forwarded-access-token",
    beside=provider,
    session=logged_in(_oauth2_proxy()),
    environ=lambda _: {"GOMAXPROCS": "1"},
)
SIDECAR_LOGIN: Final = logged_in(compare.sidecar())
