"""What a request costs does not depend on what came before it.

A walk over all that is remembered is quick where little is remembered, so no other test sees it: it
stops everybody else once a user, or a stranger, has come often enough. Counted are the calls within
the sidecar, which are the same on each machine; what one call does within C is not seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import pytest

import sidecar as product

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Received, Start, Upstream


Who = TypeVar("Who")
Ask: TypeAlias = Callable[[Who, int], Awaitable[None]]
"""Asks as somebody, with the number of the request."""

SETTLED: Final = 80  # requests after which what is bounded for one session is at its bound
MANY: Final = 400
WATCHED: Final = 30
ALLOWED: Final = 1.2  # times as many calls
FETCH: Final = ["Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
CODE: Final = str(Path(product.__file__).parent)


class Calls:
    """How often the sidecar's functions have called, or were called."""

    count = 0


@contextmanager
def counted() -> Iterator[Calls]:
    """Counts calls in this thread."""
    calls = Calls()

    def note(frame: Any, event: str, _: object) -> None:
        if event in {"call", "c_call"} and frame.f_code.co_filename.startswith(CODE):
            calls.count += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


# -- what is asked again and again -----------------------------------------------------------------


async def renew(one: Client, number: int) -> None:
    """The one session's token has expired each time, and its browser takes the new cookies."""
    cookie = f"access_token=a{number}; refresh_token=r{number}"
    answer = await one.get("/api/guarded", f"Cookie: {cookie}", *FETCH)
    assert answer.status == 200
    assert any(line.startswith("refresh_token=") for line in answer.all("Set-Cookie"))


async def present_beside_others(one: Client, number: int) -> None:
    """The one session beside a cookie that changes each time."""
    assert (await one.get("/api/x", f"Cookie: access_token=same; seen={number}")).status == 200


async def present_another(one: Client, number: int) -> None:
    """A session that nobody has presented yet."""
    assert (await one.get("/api/x", f"Cookie: access_token=new-{number}")).status == 200


async def end(one: Client, number: int) -> None:
    """A session that is logged out at once, and presented once more."""
    cookie = f"Cookie: access_token=end-{number}"
    assert (await one.get("/api/x", cookie)).status == 200
    assert (await one.post("/api/logout", cookie, *FETCH)).status == 200
    assert (await one.get("/api/x", cookie, *FETCH)).status == 303


async def be_rejected(one: Client, number: int) -> None:
    """A session that the upstream does not take, and that nothing renews."""
    assert (await one.get("/api/never", f"Cookie: access_token=bad-{number}", *FETCH)).status == 303


async def be_refused(one: Client, number: int) -> None:
    """A made-up refresh token, which the provider refuses."""
    cookie = f"access_token=bad-{number}; refresh_token=bad-{number}"
    assert (await one.get("/api/never", f"Cookie: {cookie}", *FETCH)).status == 303


async def bring_bearer(one: Client, number: int) -> None:
    """A token of the client's own."""
    await one.get("/api/x", f"Authorization: Bearer own-{number}")


async def ask_elsewhere(one: Client, number: int) -> None:
    """A path, a query, a field and a Host of its own."""
    fields = [f"Host: h{number}.example.com", f"X-Own-{number}: {number}"]
    await one.get(f"/pages/{number}?q={number}", *fields)


async def be_invalid(one: Client, number: int) -> None:
    """A sealed session that does not open."""
    await one.get("/api/x", f"Cookie: authjs.session-token=e..{number}.x.y")


ASKED: Final = (
    renew,
    present_beside_others,
    present_another,
    end,
    be_rejected,
    be_refused,
    bring_bearer,
    ask_elsewhere,
    be_invalid,
)


def guarded(upstream: Upstream) -> Callable[[Received], bytes]:
    """An API each of whose tokens is good until it is asked again, and its token endpoint."""
    used = {"a0"}

    def answer(request: Received) -> bytes:
        token = (request.get("Authorization") or "").removeprefix("Bearer ")
        if request.target == "/refresh":
            refresh = json.loads(request.body)["refreshToken"]
            if refresh.startswith("bad"):
                return upstream.reply(b"{}", status="401 X")
            number = int(refresh[1:]) + 1
            tokens = {"access_token": f"a{number}", "refresh_token": f"r{number}"}
            return upstream.reply(json.dumps({**tokens, "expires_in": 3600}).encode())
        is_spent = token in used
        if request.target == "/guarded":
            used.add(token)
        if request.target == "/never" or is_spent:
            return upstream.reply(b"{}", status="401 X")
        return upstream.reply()

    return answer


@pytest.fixture(params=["memory", "sqlite"])
async def one(
    request: pytest.FixtureRequest,
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    tmp_path: Path,
) -> Client:
    """A client of an API whose sessions are renewed."""
    upstream.default = guarded(upstream)
    endpoint = {"url": f"{upstream.url}/refresh", "json": {"refreshToken": "{refresh_token}"}}
    sources: list[dict[str, Any]] = [
        {"type": "authjs", "secret": "a secret of Auth.js, for the tests"},
        {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"},
    ]
    is_memory = request.param == "memory"
    at = await sidecar(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "routes": [
                {"path": "/api", "kind": "api", "upstream": "main", "strip": "/api"},
                {"path": "/", "kind": "page", "upstream": "main"},
            ],
            "session": {"sources": sources},
            "refresh": {"type": "http", "grace": "1s", "request": endpoint},
            "store": {"url": "memory:" if is_memory else f"sqlite://{tmp_path}/store.db"},
        }
    )
    return await client(at)


async def is_flat(ask: Ask[Who], one: Who, settled: int, many: int) -> None:
    """Fails if a request after `many` of its kind calls more than after `settled` of them."""
    watched: dict[int, list[int]] = {settled: [], many: []}
    number = 0
    for begins, counts in watched.items():
        while number < begins:
            await ask(one, number)
            number += 1
        while number < begins + WATCHED:
            with counted() as calls:
                await ask(one, number)
            counts.append(calls.count)
            number += 1
    early, late = watched.values()
    assert median(early) > 0
    assert median(late) <= ALLOWED * median(early), (early, late)


@pytest.mark.parametrize("ask", ASKED, ids=lambda ask: ask.__name__)
async def test_the_work_of_a_request_does_not_grow(one: Client, ask: Ask[Client]) -> None:
    """As many calls after hundreds of requests as after the first ones."""
    await is_flat(ask, one, SETTLED, MANY)
