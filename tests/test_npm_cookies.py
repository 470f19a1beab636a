"""Cookies minted just now by the real npm packages, at the versions of tests/npm."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar, with_set_cookies
from sidecar.core.credential import read_credential
from sidecar.core.formats import FORMATS
from sidecar.core.tickets import ClaimStamp
from sidecar.core.token_set import TokenSet
from sidecar.explain import Explanation, explain

PROJECT = Path(__file__).parent / "npm"

SEALED = ("authjs", "nextauth", "auth0", "better-auth", "iron-session")

every_type = pytest.mark.parametrize("type_", [*SEALED, "jwt"])
every_sealed_type = pytest.mark.parametrize("type_", SEALED)


@dataclass(frozen=True)
class Minted:
    """One session cookie, whole or in chunks, and what opens it."""

    what: str
    type: str
    options: dict[str, Any]
    token: str
    lifetime: int
    cookies: dict[str, str]

    def read(self, now: float, **options: Any) -> Explanation:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return explain([FORMATS[self.type](**{**self.options, **options})], header, now)


@pytest.fixture(scope="session")
def libraries(
    npm_project: Callable[..., Path], require_program: Callable[[str], str]
) -> Callable[..., Any]:
    """Runs one of the scripts of tests/npm and gives what it prints."""
    node = require_program("node")
    project = npm_project(PROJECT)

    def run(script: str, given: str = "") -> Any:
        done = subprocess.run(
            [node, script],
            cwd=project,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def minted(libraries: Callable[..., Any]) -> list[Minted]:
    return [Minted(**case) for case in libraries("mint.mjs")]


def of_type(minted: list[Minted], type_: str) -> list[Minted]:
    cases = [case for case in minted if case.type == type_]
    assert len(cases) >= 3
    return cases


@every_type
def test_every_fresh_cookie_yields_its_token(minted: list[Minted], type_: str) -> None:
    now = time.time()
    for case in of_type(minted, type_):
        told = case.read(now)
        assert told["result"] == "ok", (case.what, told["why"])
        assert told["token_sha256"] == sha256(case.token.encode()).hexdigest()
        assert told["chunks"] == len(case.cookies)
        assert told["expires_at"] == pytest.approx(now + case.lifetime, abs=120)


@every_sealed_type
def test_every_cookie_lives_through_the_tolerance_and_then_expires(
    minted: list[Minted], type_: str
) -> None:
    for case in of_type(minted, type_):
        end = case.read(time.time())["expires_at"]
        assert end is not None
        assert case.read(end + 14)["result"] == "ok", case.what
        assert case.read(end + 60)["result"] == "expired", case.what


@every_type
def test_no_cookie_opens_with_another_secret(minted: list[Minted], type_: str) -> None:
    key = "passwords" if type_ == "iron-session" else "secrets"
    wrong = {"1": "x" * 32, "2": "y" * 32} if type_ == "iron-session" else ["x" * 32]
    for case in of_type(minted, type_):
        assert case.read(time.time(), **{key: wrong})["result"] == "invalid", case.what


@every_sealed_type
def test_a_missing_chunk_is_never_made_up_for(minted: list[Minted], type_: str) -> None:
    chunked = [case for case in of_type(minted, type_) if len(case.cookies) > 1]
    assert chunked
    for case in chunked:
        for missing in case.cookies:
            rest = {name: value for name, value in case.cookies.items() if name != missing}
            broken = Minted(case.what, case.type, case.options, case.token, case.lifetime, rest)
            assert broken.read(time.time())["result"] in {"invalid", "no_session"}, case.what


PREFIXES = ("", "__Secure-")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("size", [10, 2000, 20_000])
@pytest.mark.parametrize("type_", ["authjs", "nextauth"])
def test_libraries_read_what_a_renewal_wrote(
    libraries: Callable[..., Any], minted: list[Minted], type_: str, size: int, prefix: str
) -> None:
    """Claims, chunks, header and key as they write them; only the tokens differ."""
    case = next(case for case in of_type(minted, type_) if case.what == "small")
    (secret,) = case.options["secrets"]
    name = prefix + ("authjs" if type_ == "authjs" else "next-auth") + ".session-token"
    stamp = ClaimStamp([b"s" * 32])
    paths = {"refresh_token": ("refreshToken",), "expires_at": ("at",)}
    source = FORMATS[type_](secrets=[secret], stamp=stamp, **paths)
    now = time.time()
    claims = {"name": "Zoë ☃", "accessToken": "a0", "refreshToken": "r0", "at": 1, "exp": now + 99}
    sealed = source.opener.seal({**claims, "large": "x" * size}, name)  # type: ignore[attr-defined]
    jar = CookieJar.parse(f"{name}={sealed}")
    reading = read_credential([source], jar, now)
    assert reading.writer is not None
    tokens = TokenSet("a1", "r1", now + 60, now)
    lines = reading.writer.write(reading, tokens, "fp", Scope(https=bool(prefix)))
    assert all(b"; Secure" in line for line in lines) is bool(prefix)
    after = CookieJar.parse(with_set_cookies(jar.header, lines, now))
    cookies = {one: value for one, value, _ in after.pairs}
    assert (len(cookies) > 1) is (size > 3936)
    (opened,) = libraries("open.mjs", json.dumps([[type_, name, secret, cookies]]))
    assert opened is not None
    renewed = {"accessToken": "a1", "refreshToken": "r1", "at": int(now + 60)}
    private = {"sidecar": stamp.write("fp", now)}
    assert opened == {**claims, "large": "x" * size, **renewed, **private}
    again = read_credential([source], after, now)
    assert (again.token, again.identity, again.tokens) == (
        "a1",
        "fp",
        TokenSet("a1", "r1", int(now + 60), now),
    )
