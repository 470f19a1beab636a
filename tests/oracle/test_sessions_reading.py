"""Spellings of session cookies, as the real libraries read them behind the running product."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Answer
from tests.oracle.sessions_model import NAMES, set_lines
from tests.oracle.sessions_play import HOW_MANY, PHASES
from tests.oracle.sessions_reading import BASES, PROJECT, Libraries, sealed_values
from tests.oracle.sessions_spelling import PREFIXES, SPELLING, Change, spell
from tests.oracle.sessions_world import (
    PATIENCE,
    SECRET,
    Asking,
    Site,
    World,
    a_store,
    config,
    runner,
)
from tests.ports import free_port

FETCH: Final = ("Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin")
SOURCES: Final = [
    {"type": "authjs", "secret": SECRET},
    {"type": "nextauth", "secret": SECRET},
    {"type": "auth0", "secret": SECRET},
    {"type": "better-auth", "secret": SECRET},
    {"type": "iron-session", "cookie": "app", "password": SECRET},
]
TOKENLESS: Final = ("authjs", "nextauth", "iron-session")
_SERIAL: Final = count(1)

every_library = pytest.mark.parametrize("library", list(BASES))


@pytest.fixture(scope="session")
def libraries(
    npm_project: Callable[..., Path], require_program: Callable[[str], str]
) -> Iterator[Libraries]:
    """The real libraries, at the versions of tests/oracle/reading."""
    node = require_program("node")
    project = npm_project(PROJECT)
    running = Libraries(node, project, SECRET)
    yield running
    running.close()


@dataclass
class Place:
    """The running product with every kind of session, seen from outside of its event loop."""

    world: World
    libraries: Libraries
    run: Callable[[Any], Any]
    tokens: dict[str, str] = field(default_factory=dict)  # session → its access token

    def begin(
        self, library: str, *, prefix: str = "", is_large: bool = False, has_token: bool = True
    ) -> tuple[str, dict[str, str]]:
        """A new session of a library: its number, and the cookies that the library sets."""
        number = f"{library}-{next(_SERIAL)}"
        claims = {"n": number, "sub": number, "name": "Zoë"}
        if has_token:
            self.tokens[number] = claims["accessToken"] = f"at-{number}"
        if is_large:
            claims["large"] = "x" * 5000
        return number, self.libraries.mint(library, prefix + BASES[library], claims)

    def ask(
        self, header: str, method: str, target: str, *fields: str, **do: Any
    ) -> tuple[Answer, Asking]:
        """A request, and what arrived of it."""
        asking = self.world.asking()
        asked = self.world.ask(asking, 0, None, method, target, *fields, cookie=header, do=do)
        return self.run(asked), asking

    def log_out(self, header: str) -> None:
        """The button."""
        answer, _ = self.ask(header, "POST", "/api/logout")
        assert answer.status == 200

    def page_reads(self, header: str, target: str = "/page", *fields: str) -> dict[str, list[str]]:
        """What the libraries read in what a page is sent for this Cookie header."""
        _, asking = self.ask(header, "GET", target, *fields)
        found = {}
        for arrival in asking.arrivals:
            found.update(self.libraries.read(arrival.cookie))
        return found

    def injected(self, header: str) -> list[str | None]:
        """The tokens that the API is sent for this Cookie header."""
        _, asking = self.ask(header, "GET", "/api/optional/me")
        return [arrival.token for arrival in asking.arrivals]


@pytest.fixture(scope="module")
def place(libraries: Libraries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with runner() as loop, a_store(tmp_path_factory.mktemp("store")) as store:
        site = Site(free_port())
        world = World(site, config(site, store, SOURCES))
        loop.run(world.start())
        yield Place(world, libraries, loop.run)
        loop.run(world.stop())


def tried(examples: int) -> settings:
    """How many spellings are tried; the same ones every time, unless more are asked for."""
    return settings(
        max_examples=examples * HOW_MANY,
        derandomize=HOW_MANY == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=PHASES,
        report_multiple_bugs=False,
    )


def plainly(cookies: Mapping[str, str]) -> str:
    """The Cookie field value as a browser writes it."""
    return spell({"theme": "dark", **cookies}, ())


@every_library
@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("prefix", ["", "__Secure-"])
def test_living_session_is_read_behind_the_product(
    place: Place, library: str, *, is_large: bool, prefix: str
) -> None:
    """Whole and in chunks, with and without prefix; its token goes to the API."""
    number, cookies = place.begin(library, is_large=is_large, prefix=prefix)
    assert (len(cookies) > 1) is is_large
    header = plainly(cookies)
    assert list(place.page_reads(header)) == [number]
    assert place.injected(header) == [place.tokens[number]]


@pytest.mark.parametrize("target", ["/page", "/open/page", "/api/auth/session"])
@pytest.mark.parametrize("is_large", [False, True])
@every_library
def test_dead_session_is_read_in_no_spelling(
    place: Place, library: str, target: str, *, is_large: bool
) -> None:
    """Whatever a page is sent, the library reads no session in it; and no API gets its token."""
    number, cookies = place.begin(library, is_large=is_large)
    place.log_out(plainly(cookies))

    @tried(60)
    @given(SPELLING)
    def try_it(spelling: tuple[list[Change], int]) -> None:
        header = spell(cookies, *spelling)
        read = place.page_reads(header, target)
        assert number not in read, f"{header[:150]!r} is read by {read[number]}"
        assert place.tokens[number] not in place.injected(header), header[:150]

    try_it()


@pytest.mark.parametrize("library", TOKENLESS)
def test_session_without_a_token_dies_at_its_logout(place: Place, library: str) -> None:
    number, cookies = place.begin(library, has_token=False)
    header = plainly(cookies)
    assert list(place.page_reads(header)) == [number]
    place.log_out(header)
    assert place.page_reads(header) == {}
    other, others = place.begin(library, has_token=False)
    assert list(place.page_reads(plainly(others))) == [other]


@every_library
def test_session_that_a_page_was_given_can_be_ended_by_the_same_cookies(
    place: Place, library: str
) -> None:
    """A spelling is read as the library reads it, or taken out: it is never only passed on."""

    @tried(50)
    @given(SPELLING)
    def try_it(spelling: tuple[list[Change], int]) -> None:
        number, cookies = place.begin(library)
        header = spell(cookies, *spelling)
        read = place.page_reads(header)
        if number in read:
            place.log_out(header)
            left = place.page_reads(plainly(cookies))
            assert number not in left, f"{header[:150]!r} is {read[number]}, and lives on"

    try_it()


@every_library
def test_late_answer_sets_no_session_whatever_the_spelling_was(place: Place, library: str) -> None:
    """Cookies that the library reads as a session present it, to the product as well."""

    @tried(50)
    @given(SPELLING)
    def try_it(spelling: tuple[list[Change], int]) -> None:
        number, cookies = place.begin(library)
        header = spell(cookies, *spelling)
        if number not in place.libraries.read(header, library):
            return
        _, others = place.begin(library)
        lines = [*set_lines(others), "other=1"]
        late = place.run(_late(place, header, plainly(cookies), lines))
        if late is None:
            return  # refused at once
        assert late == ["other=1"], f"{header[:150]!r} presents it, and its late answer sets {late}"

    try_it()


async def _late(place: Place, header: str, plain: str, sets: Sequence[str]) -> list[str] | None:
    """The Set-Cookie values of an answer that comes when its session has ended.

    None where the request reaches no page.
    """
    world, asking = place.world, place.world.asking()
    asked = world.ask(
        asking, 0, asking, "GET", "/page", *FETCH, cookie=header, do={"hold": 1, "set": sets}
    )
    task = asyncio.create_task(asked)
    arrived = asyncio.create_task(asking.arrived.wait())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({task, arrived}, return_when=asyncio.FIRST_COMPLETED)
    arrived.cancel()
    out = await world.ask(world.asking(), 0, None, "POST", "/api/logout", cookie=plain)
    assert out.status == 200
    asking.released.set()
    if not asking.arrivals:
        await task
        return None
    return [one for one in (await task).all("Set-Cookie") if "Max-Age=0" not in one]


def test_the_port_reads_what_the_library_reads(libraries: Libraries) -> None:
    """The model of sessions puts cookies together as Auth.js does, in every spelling."""
    minted = {}
    for prefix, is_large in [(p, large) for p in PREFIXES for large in (False, True)]:
        claims = {"n": f"{prefix}{is_large}", "large": "x" * 5000 * is_large}
        minted[prefix, is_large] = libraries.mint("authjs", prefix + BASES["authjs"], claims)

    @tried(400)
    @given(SPELLING, st.sampled_from(list(minted)), st.sampled_from([None, *minted]))
    def try_it(
        spelling: tuple[list[Change], int], one: tuple[str, bool], two: tuple[str, bool] | None
    ) -> None:
        cookies = minted[one] | (minted[two] if two is not None else {})
        header = spell(cookies, *spelling)
        assert dict(sealed_values(header, NAMES)) == libraries.join(header), header

    try_it()
