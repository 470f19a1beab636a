"""The sidecar with defects, each of which has a secret in its text: `python -m tests.leaks.broken`.

A request's path says which defect it meets, and its Cookie header is the secret.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sidecar import config_loader
from sidecar.cli import main
from sidecar.web.admin import Admin
from sidecar.web.planner import Planner


class Defect(Exception):
    """No error that the sidecar knows."""


def fail(secret: object) -> NoReturn:
    raise Defect(f"the secret is {secret!r}")


async def fail_later(secret: object) -> NoReturn:
    fail(secret)


class Unraisable:
    """Fails when nobody can be told."""

    def __init__(self, secret: object) -> None:
        self.secret = secret

    def __del__(self) -> None:
        fail(self.secret)

    def __repr__(self) -> str:
        return f"Unraisable({self.secret!r})"


def in_a_callback(secret: object) -> None:
    asyncio.get_running_loop().call_soon(fail, secret)


def in_a_task(secret: object) -> None:
    async def forget() -> None:
        task = asyncio.ensure_future(fail_later(secret))
        await asyncio.wait([task])
        del task
        gc.collect()

    forgotten.append(asyncio.ensure_future(forget()))


def in_a_thread(secret: object) -> None:
    threading.Thread(target=fail, args=[secret]).start()


def nowhere(secret: object) -> None:
    Unraisable(secret)
    gc.collect()


def never_awaited(secret: object) -> None:
    fail_later(secret)  # type: ignore[unused-coroutine]
    gc.collect()


def in_a_warning(secret: object) -> None:
    warnings.warn(f"the secret is {secret!r}", stacklevel=1)


def in_a_library(secret: object) -> None:
    logging.getLogger("one").warning("it is %s, %d times", secret, 3)
    logging.getLogger("two").error(f"it is {secret!r}")
    try:
        fail(secret)
    except Defect:
        logging.getLogger("three").exception("it failed")


forgotten: Final[list[Any]] = []
DEFECTS: Final[dict[str, Callable[[object], None]]] = {
    "/request": fail,
    "/callback": in_a_callback,
    "/task": in_a_task,
    "/thread": in_a_thread,
    "/unraisable": nowhere,
    "/awaited": never_awaited,
    "/warning": in_a_warning,
    "/library": in_a_library,
}


def plant() -> None:
    """Puts the defects where requests, the admin listener and reloads find them."""
    plan, load = Planner.plan, config_loader.load  # type: ignore[attr-defined]

    def planned(self: Planner, flow: Any, request: Any) -> Any:
        if (defect := DEFECTS.get(request.path)) is not None:
            defect(request.cookie)
        return plan(self, flow, request)

    async def healthy(_: Admin, request: Any) -> NoReturn:
        fail(request.headers)

    def loaded(text: Any, **more: Any) -> Any:
        if "DEFECT" in text:
            fail(text)
        return load(text, **more)

    for holder, name, broken in (
        (Planner, "plan", planned),
        (Admin, "_healthz", healthy),
        (config_loader, "load", loaded),
    ):
        setattr(holder, name, broken)


if __name__ == "__main__":
    plant()
    main()
