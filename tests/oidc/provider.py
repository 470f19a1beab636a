"""The provider of these tests as a process: oidc-provider from npm, run by `provider.mjs`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession

from sidecar.net.provider import ProviderSettings

SECRET: Final = "a secret of the sidecar's, 32 bytes"
CLIENT_ID, CLIENT_SECRET = "app", "a secret of the client's"
PATIENCE: Final = 20.0  # seconds that anything waited for may take; a token lives as long


class Provider:
    """The provider's process, and what it says about tokens."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.issuer = f"http://localhost:{port}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(
        self,
        node: str,
        project: Path,
        sidecar: str,
        log: Path,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Starts it for one sidecar, by its address; `options` are those of the script.

        `metadata` are more, or others, of the client; None takes one away.
        """
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [f"{sidecar}/auth/callback"],
            "post_logout_redirect_uris": [f"{sidecar}/"],
            "backchannel_logout_uri": f"{sidecar}/auth/backchannel-logout",
            "backchannel_logout_session_required": True,
            "id_token_signed_response_alg": "ES256",
            **(metadata or {}),
        }
        client = {name: value for name, value in client.items() if value is not None}
        given = json.dumps({"port": self.port, "client": client, **options})
        with log.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *(node, "provider.mjs", given),
                cwd=project,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert (await self.process.stdout.readline()).strip() == b"ready"

    async def stop(self) -> None:
        """Ends it, if it was started."""
        if self.process is not None:
            self.process.kill()
            await self.process.communicate()

    def introspection(self, token: str) -> tuple[str, dict[str, str], dict[str, str]]:
        """What asks for a token (RFC 7662): address, headers and form."""
        me = ProviderSettings(CLIENT_ID, issuer=self.issuer, client_secret=CLIENT_SECRET)
        headers, form = me.authenticated({"token": token})
        return f"{self.issuer}/token/introspection", dict(headers), dict(form)

    async def is_live(self, token: str) -> bool:
        """What introspection says."""
        url, headers, form = self.introspection(token)
        async with (
            ClientSession(headers=headers) as asking,
            asking.post(url, data=form) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return bool((await answer.json())["active"])
