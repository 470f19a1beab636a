"""A site of real processes, shared by the tests of this directory as far as they leave it whole."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest

from tests.life.cast import Cast, Expired, Library
from tests.life.programs import LIFETIME, ROOT, Api, Idp, Program, Redis, Replica, config_of

INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


AT_EASE = {
    "access_token_lifetime": LIFETIME,
    "outage": "none",
    "refresh_delay": 0,
    "invalid_grant": 0,
    "burst": 0,
    "reset_stats": True,
}
"""What the provider is told before and after each test."""

SECRETS = re.compile(r"(?:eyJ|rt_)[\w-]{20,}")
"""How JWTs, sealed cookies and the provider's refresh tokens begin."""


class Stage:
    """The provider and the API, and whatever is started besides until `close`."""

    def __init__(self, directory: Path, redis_server: str, idp: Idp, api: Api) -> None:
        self.idp = idp
        self.api = api
        self._directory = directory
        self._redis_server = redis_server
        self._programs: list[Program] = []

    def start(self, *programs: Program) -> None:
        """Starts programs side by side, and waits until all serve."""
        self._programs += programs
        for one in programs:
            one.start()
        for one in programs:
            one.wait()

    def redis(self, *, lasting: bool = False) -> Redis:
        """A server of its own."""
        one = Redis(self._redis_server, self._directory, lasting=lasting)
        self.start(one)
        return one

    def run(self, count: int = 1, **more: Any) -> list[Replica]:
        """Replicas of the site, of one configuration."""
        config = config_of(self.idp, self.api, **more)
        replicas = [Replica(config, self._directory) for _ in range(count)]
        self.start(*replicas)
        return replicas

    def close(self) -> None:
        """Ends everything. No sidecar may have logged a defect, nor anything that is secret."""
        for program in reversed(self._programs):
            program.kill()
        for program in self._programs:
            if isinstance(program, Replica):
                log = program.log.read_text()
                assert program.said("defect") == []
                assert "Traceback" not in log
                assert SECRETS.findall(log) == []


@pytest.fixture(scope="session")
def lasting_stage(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]
) -> Iterator[Stage]:
    """What all tests share, and none may end."""
    directory = tmp_path_factory.mktemp("life")
    idp = Idp(directory)
    one = Stage(directory, require_program("redis-server"), idp, Api(idp, directory))
    try:
        one.start(idp)
        one.start(one.api)
        yield one
    finally:
        one.close()


@pytest.fixture
def stage(
    lasting_stage: Stage, tmp_path: Path, require_program: Callable[[str], str]
) -> Iterator[Stage]:
    """The same provider and API, and what one test starts for itself."""
    shared = lasting_stage
    one = Stage(tmp_path, require_program("redis-server"), shared.idp, shared.api)
    yield one
    one.close()


@pytest.fixture(scope="session")
def replicas(lasting_stage: Stage) -> list[Replica]:
    """Two processes of two workers each, which share a Redis."""
    return lasting_stage.run(2, workers=2, store={"url": lasting_stage.redis().url})


@pytest.fixture(scope="session")
def library(
    tmp_path_factory: pytest.TempPathFactory,
    require_program: Callable[[str], str],
    do_without: Callable[[str], NoReturn],
) -> Iterator[Library]:
    """The real libraries, at the versions of tests/npm, in a process that waits for work."""
    node, npm = require_program("node"), require_program("npm")
    project = tmp_path_factory.mktemp("npm")
    for file in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(ROOT / "tests" / "npm" / file, project)
    shutil.copy(Path(__file__).parent / "library.mjs", project)
    done = subprocess.run(
        [npm, *INSTALL], cwd=project, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        do_without(f"npm ci failed: {done.stderr[-500:]}")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [node, "library.mjs"], cwd=project, stdin=pipe, stdout=pipe, text=True
    ) as process:
        given, told = process.stdin, process.stdout
        assert given is not None
        assert told is not None

        def work(deeds: Sequence[object]) -> list[Any]:
            print(json.dumps(deeds), file=given, flush=True)
            return list(json.loads(told.readline()))

        yield work
        given.close()


@pytest.fixture(scope="session")
def expired() -> Expired:
    """Sessions whose access token has expired; they are made many at a time."""
    return {}


@pytest.fixture
async def cast(lasting_stage: Stage, library: Library, expired: Expired) -> AsyncIterator[Cast]:
    """Users; at the end the provider behaves again, and has counted nothing."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=30),
    ) as http:
        one = Cast(lasting_stage.idp, library, expired, http)
        await one.set(**AT_EASE)
        yield one
        await one.set(**AT_EASE)
