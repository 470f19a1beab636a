"""The provider as an independent client sees it: openid-client from npm, a certified one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.idp import running_idp
from tests.demo.idp.party import BYE

CALLBACK = "http://127.0.0.1:9/callback"  # that client takes a callback's query for the answer
PROJECT = Path(__file__).parents[1] / "npm"


@pytest.fixture(scope="module")
def project(npm_project: Callable[..., Path]) -> Path:
    """The script with the packages of its lock file."""
    return npm_project(PROJECT)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"signing_algorithm": "ES256", "host": "localhost"},
        {"client_secret": "", "opaque_access_tokens": True},
        {"client_id": "an app: ü", "client_secret": "s:e+c r%et"},
    ],
    ids=["confidential", "es256", "public", "odd-names"],
)
async def test_a_session_lives_and_ends(
    project: Path, require_program: Callable[[str], str], options: dict[str, Any]
) -> None:
    """Discovery, login by the page, single sign-on, refresh, reuse, revocation, logout."""
    options |= {"redirect_uris": [CALLBACK], "post_logout_redirect_uris": [BYE]}
    options |= {"access_token_lifetime": 600}
    async with running_idp(**options) as idp:
        process = await asyncio.create_subprocess_exec(
            *(require_program("node"), "client.mjs", idp.issuer, idp.client_id, idp.client_secret),
            *(CALLBACK, BYE),
            cwd=project,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, err.decode()
        stats = idp.stats
    is_public = options.get("client_secret") == ""
    assert json.loads(out) == {
        "asked": [True, False],
        "sub": "alice",
        "name": "Alice",
        "scope": "openid profile email offline_access",
        "expiresIn": 600,
        "rotated": True,
        "wrongNonce": "OAUTH_JWT_CLAIM_COMPARISON_FAILED",
        "active": None if is_public else True,
        "reuse": "invalid_grant",
        "afterReuse": "invalid_grant",
        "afterRevocation": "invalid_grant",
        "userinfoAfterRevocation": "OAUTH_WWW_AUTHENTICATE_CHALLENGE",
        "silent": True,
        "bye": f"{BYE}?state=bye",
        "afterLogout": "login_required",
    }
    assert (stats.logins, stats.code_exchanges, stats.refresh_exchanges) == (1, 3, 1)
    assert (stats.refresh_reuses, stats.revocations, stats.sessions_ended) == (1, 1, 1)
