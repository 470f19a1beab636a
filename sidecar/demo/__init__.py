"""`sidecar demo`: an API, a page, the sidecar in front of both, and an identity provider beside it.

All in one process.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack, redirect_stderr
from typing import TYPE_CHECKING, Final

import uvloop
from aiohttp import web

from sidecar.app import Sidecar
from sidecar.core.config import load
from sidecar.demo.api import Api
from sidecar.demo.controls import Controls
from sidecar.demo.idp import running_idp
from sidecar.demo.page import Page, asset
from sidecar.demo.session_cookies import SessionCookies
from sidecar.demo.trace import AccessLog, Trace
from sidecar.net.parsers import require_c_parsers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sidecar.core.config import Config

HOST: Final = "127.0.0.1"
CONFIG_FILE: Final = "sidecar.yaml"
PROVIDER_HOST: Final = "localhost"  # not `HOST`: cookies know no ports, and it has some of its own
TOKEN_SECONDS: Final = 30  # short, so that renewal can be watched
_DRAIN_SECONDS: Final = 0.3
_FINE: Final = 0
_UNUSABLE: Final = 2

_WELCOME: Final = """\
Sidecar demo: http://{LISTEN}/  (admin: http://{ADMIN}/; Ctrl+C ends it)
Identity provider: {ISSUER}/  (anyone can sign in as anybody: for this demo only)
Open it, log in, look at an answer, let the token expire, look again. Without a browser:
  curl -sc jar -d name=Ada http://{LISTEN}/api/login && curl -sb jar http://{LISTEN}/api/me
"""


def main(*, port: int = 8080, verbose: bool = False) -> int:
    """Serves the demo on 127.0.0.1 at `port` (0: any that is free) until SIGTERM or SIGINT.

    `verbose` prints the sidecar's access log. Returns the exit code: 0, or 2 where the port cannot
    be had.
    """
    require_c_parsers()
    logging.getLogger("sidecar.demo.idp").setLevel(logging.ERROR)  # its warning is printed below
    return uvloop.run(_serve(port, verbose))


async def _serve(port: int, verbose: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            environ = await _start(stack, port, verbose)
            sys.stdout.write(_WELCOME.format_map(environ))
            sys.stdout.flush()
            await stop.wait()
    except OSError as error:
        sys.stderr.write(_complaint(port, error))
        return _UNUSABLE
    return _FINE


async def _start(stack: AsyncExitStack, port: int, verbose: bool) -> Mapping[str, str]:
    """Starts provider, API, page and sidecar; closing `stack` ends them, the sidecar first.

    Returns the variables of the configuration. Raises `OSError` where `port` cannot be had.
    """
    listen, admin = _free_ports(port, 0)
    secret, trace = secrets.token_urlsafe(32), Trace()
    idp = await stack.enter_async_context(running_idp(**_provider_options(listen)))
    api = Api(SessionCookies(secret), trace, idp.verify)
    page = Page(trace, Controls(idp), f"http://{HOST}:{admin}")
    environ = {
        "LISTEN": f"{HOST}:{listen}",
        "ADMIN": f"{HOST}:{admin}",
        "API_URL": await _listen(stack, api.application()),
        "PAGE_URL": await _listen(stack, page.application()),
        "AUTH_SECRET": secret,
        "ISSUER": idp.issuer,
        "CLIENT_ID": idp.client_id,
        "CLIENT_SECRET": idp.client_secret,
    }
    # It answers on the loopback interface only, to both of its names: nothing to warn of.
    config = _load(environ).model_copy(update={"warnings": ()})
    sidecar = _sidecar(config, AccessLog(trace, sys.stderr, verbose=verbose))
    await sidecar.start()
    stack.push_async_callback(sidecar.stop, _DRAIN_SECONDS)
    return environ


def _provider_options(listen: int) -> Mapping[str, Any]:
    """A provider for the sidecar on that port, by whichever of its names a browser calls it."""
    origins = [f"http://{host}:{listen}" for host in (HOST, PROVIDER_HOST)]
    return {
        "host": PROVIDER_HOST,
        "signing_algorithm": "ES256",  # its keys are made at once
        "access_token_lifetime": TOKEN_SECONDS,
        "redirect_uris": [f"{origin}/auth/callback" for origin in origins],
        "post_logout_redirect_uris": [
            f"{origin}{path}" for origin in origins for path in ("/", "/login")
        ],
        "backchannel_logout_uri": f"{origins[0]}/auth/backchannel-logout",
    }


def _free_ports(*wanted: int) -> list[int]:
    """Different ports of the loopback interface that are free now; 0 wants any.

    Raises `OSError` where one is taken.
    """
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in wanted]
        for one, port in zip(held, wanted, strict=True):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((HOST, port))
        return [one.getsockname()[1] for one in held]


async def _listen(stack: AsyncExitStack, application: web.Application) -> str:
    """Serves an application on a free port until `stack` closes. Returns its URL."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, HOST, 0).start()
    return f"http://{HOST}:{runner.addresses[0][1]}"


def _load(environ: Mapping[str, str]) -> Config:
    text = asset(CONFIG_FILE).decode()
    return load(text, source=CONFIG_FILE, environ=environ, read_file=_no_file)


def _no_file(path: str) -> str:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _sidecar(config: Config, log: AccessLog) -> Sidecar:
    """A sidecar whose log goes to `log` instead of standard error."""
    with redirect_stderr(log):
        return Sidecar(config)


def _complaint(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"sidecar demo: {HOST}:{port} is in use; choose another port with --port, "
            "or --port 0 for any that is free\n"
        )
    return f"sidecar demo: cannot listen on {HOST}:{port}: {error.strerror or error}\n"
