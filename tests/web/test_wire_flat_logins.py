"""What a login, and a session of one's own, costs does not depend on how many came before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.web.test_wire_flat_work import Ask, is_flat
from tests.web.test_wire_login import (  # noqa: F401
    DOCUMENT,
    FETCH,
    Browser,
    browsers,
    idp,
    kept,
    times,
)

if TYPE_CHECKING:
    from tests.conftest import Embedded
    from tests.web.test_wire_login import Browsers

SETTLED: Final = 40
MANY: Final = 240


async def begin(one: Browser, number: int) -> None:
    """A login that nobody ends."""
    one.cookie = ""
    await one.begin(f"?next=/{number}")


async def log_in(one: Browser, number: int) -> None:
    """A user who logs in again and again, each time in a new browser."""
    one.cookie = ""
    await one.log_in()
    assert (await one.get(f"/api/{number}", *FETCH)).status == 200


async def log_in_and_out(one: Browser, number: int) -> None:
    """A whole life."""
    await log_in(one, number)
    assert (await one.get("/auth/logout", *DOCUMENT)).status == 303


async def come_back(one: Browser, number: int) -> None:
    """An answer that no login waits for."""
    one.cookie = ""
    await one.get(f"/auth/callback?code=c{number}&state=s{number}", *DOCUMENT)


async def guess(one: Browser, number: int) -> None:
    """A session that nobody has."""
    one.cookie = f"sidecar={number:0>43}; __Host-sidecar={number:0>43}"
    await one.get("/api/optional/x", *FETCH)


ASKED: Final = (begin, log_in, log_in_and_out, come_back, guess)


@pytest.mark.parametrize("ask", ASKED, ids=lambda ask: ask.__name__)
async def test_the_work_of_a_login_does_not_grow(
    kept: Embedded,  # noqa: F811
    browsers: Browsers,  # noqa: F811
    ask: Ask[Browser],
) -> None:
    """As many calls after hundreds as after the first ones."""
    await is_flat(ask, await browsers(kept), SETTLED, MANY)
