"""The API, the sites and the browser of the end-to-end tests."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.e2e.api import Api, serving
from tests.e2e.browser import PATIENCE, NewUser, User
from tests.e2e.servers import HERE, Builds, Site, Sites, Variant
from tests.ports import free_port

ARTIFACTS: Final = HERE / "artifacts"
FAILED: Final = pytest.StashKey[bool]()
ARGUMENTS: Final = (
    "--no-sandbox",  # for root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets fixtures know at their end whether the test failed."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """The folder of logs, screenshots and traces; those of the last run go."""
    shutil.rmtree(ARTIFACTS, ignore_errors=True)
    (ARTIFACTS / "logs").mkdir(parents=True)
    return ARTIFACTS


@pytest.fixture(scope="session")
def the_api() -> Iterator[Api]:
    """The API behind every site."""
    with serving(Api(free_port())) as api:
        yield api


@pytest.fixture(scope="session")
def sites(
    the_api: Api,
    artifacts: Path,
    tmp_path_factory: pytest.TempPathFactory,
    require_program: Callable[[str], str],
) -> Iterator[Sites]:
    """Starts sites on demand. At the end none of their logs holds a token."""
    node = cache(lambda: require_program("node"))
    builds = cache(
        lambda: Builds(node(), require_program("npm"), artifacts / "logs" / "builds.log")
    )
    folder = tmp_path_factory.mktemp("sites")
    started = Sites(the_api, builds, node, folder, artifacts / "logs")
    yield started
    started.close()
    for log in (artifacts / "logs").glob("*.sidecar.log"):
        text = log.read_text(errors="replace")
        assert not any(token in text for token in the_api.tokens), f"{log.name} holds a token"


@pytest.fixture
def variant(request: pytest.FixtureRequest) -> Variant:
    """Which site a test is about; tests say it by parameters."""
    told: Variant = request.param
    return told


@pytest.fixture
def site(variant: Variant, sites: Sites) -> Site:
    """The running site that a test is about."""
    return sites(variant)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(require_program: Callable[[str], str]) -> AsyncIterator[Browser]:
    """One Chromium for all tests."""
    chromium = require_program("chromium")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium, headless=True, args=ARGUMENTS
        )
        yield launched
        await launched.close()


_numbers: Final = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def new_user(
    site: Site, the_api: Api, browser: Browser, artifacts: Path, request: pytest.FixtureRequest
) -> AsyncIterator[NewUser]:
    """Makes users, each with a browser context of its own. A screenshot is kept of each one's end,
    and where the test fails a trace."""
    users: list[User] = []
    node = request.node
    name = re.sub(r"[^\w-]+", "-", node.name).strip("-")

    async def make(kind: str = "user", **options: Any) -> User:
        context = await browser.new_context(
            base_url=site.url, ignore_https_errors=site.variant.tls, **options
        )
        stack.push_async_callback(context.close)
        context.set_default_timeout(PATIENCE * 1000)
        await context.tracing.start(snapshots=True)
        page = await context.new_page()
        user = User(f"{kind}-{next(_numbers)}", site, the_api, context, page, make)
        context.on("response", user.heard)
        users.append(user)
        return user

    async with AsyncExitStack() as stack:
        yield make
        for at, user in enumerate(users):
            mark = f"-{at + 1}" if at else ""
            pages = user.context.pages
            if pages:
                await pages[0].screenshot(path=artifacts / f"{name}{mark}.png")
            failed = node.stash.get(FAILED, True)
            trace = artifacts / f"{name}{mark}.zip" if failed else None
            await user.context.tracing.stop(path=trace)


@pytest_asyncio.fixture(loop_scope="session")
async def user(new_user: NewUser) -> User:
    """A user who has logged in, at the dashboard."""
    made = await new_user()
    await made.log_in()
    return made
