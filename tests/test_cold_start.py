"""A start imports what the configuration needs, and the first request nothing more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.late_imports import LATE
from tests.conftest import Clients, StartCommand, Upstream

IMPORTED: Final = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)$", re.MULTILINE)

# What nobody needs who has neither login nor renewal, and no store but memory.
NOT_PLAIN: Final = frozenset(
    (
        *LATE,
        "aiohttp.client",
        "redis",
        "opentelemetry",
        "sidecar.demo",
        "sidecar.tracing",
        "sidecar.workers.supervisor",
    )
)
# What takes longer to import than all that a probe does.
NOT_QUICK: Final = frozenset(
    (
        *("aiohttp", "asyncio", "cryptography", "email", "hashlib", "http.client", "joserfc"),
        *("json", "logging", "msgspec", "pathlib", "pydantic", "ruamel.yaml", "secrets", "ssl"),
        *("structlog", "sidecar.core.config", "sidecar.core.errors"),
    )
)


def imported(log: str) -> set[str]:
    return set(IMPORTED.findall(log))


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has each process tell what it imports."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--version"], 0), (["health", "--admin", "unix:/nobody"], 1)]
)
def test_a_command_that_is_run_often_imports_little(arguments: list[str], code: int) -> None:
    """Probes of containers run one every few seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    names = imported(done.stderr)
    assert "sidecar.cli" in names
    assert not names & NOT_QUICK


async def test_a_plain_configuration_imports_no_more_than_it_needs(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """And requests nothing more: whoever comes first would wait for it, and others with it."""
    at = await command()
    names = imported(at.stderr)
    assert "aiohttp.http_parser" in names
    assert not names & NOT_PLAIN
    one = await client(at)
    for path in ("/api/me", "/api/logout", "/"):
        await one.get(path)
    assert imported(at.stderr) - names == set()


@pytest.mark.parametrize(
    ("more", "module"),
    [
        (
            {
                "refresh": {
                    "request": {"url": "http://127.0.0.1:9/", "json": ["{refresh_token}"]},
                    "type": "http",
                },
                "session": {"sources": [{"type": "cookie", "cookie": "a", "refresh_cookie": "b"}]},
            },
            "sidecar.net.http_client",
        ),
        ({"logout": {"hooks": [{"url": "http://127.0.0.1:9/"}]}}, "sidecar.net.http_client"),
        ({"store": {"url": "redis://127.0.0.1:9/0"}}, "sidecar.net.store.redis"),
        ({"store": {"url": "sqlite://{folder}/a.db"}}, "sidecar.net.store.sqlite"),
    ],
)
async def test_what_is_imported_late_is_there_before_the_first_request(
    command: StartCommand,
    upstream: Upstream,
    tmp_path: Path,
    more: Mapping[str, Any],
    module: str,
) -> None:
    text = json.dumps(more).replace("{folder}", str(tmp_path))
    more = json.loads(text)
    assert module in imported((await command(**more)).stderr)


PARTS: Final = """
import sys
from sidecar.net.aiohttp_parts import import_by_parts
import_by_parts()
import aiohttp, aiohttp.http_parser
from aiohttp import hdrs, web
from importlib.metadata import version
assert "aiohttp.client" not in sys.modules
assert aiohttp.__version__ == version("aiohttp")
assert not hasattr(aiohttp, "__nothing__")
import_by_parts()
from aiohttp import ClientSession, ETag
assert aiohttp.client.ClientSession is ClientSession and aiohttp.web is web
assert set(aiohttp.__all__) <= set(dir(aiohttp))
assert not hasattr(aiohttp, "nothing")
"""


def test_aiohttp_by_its_parts_is_aiohttp() -> None:
    """All of it is there, once anything is asked for that none of its modules is."""
    done = subprocess.run(
        [sys.executable, "-c", PARTS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
