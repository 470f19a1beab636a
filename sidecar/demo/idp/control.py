"""The control endpoint: switches, actions and counters of a rehearsal as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sidecar.demo.idp.courier import Courier
from sidecar.demo.idp.demo_provider import DemoProvider
from sidecar.demo.idp.messages import NO_STORE
from sidecar.demo.idp.options import faults
from sidecar.demo.idp.pages import WARNING
from sidecar.demo.idp.records import Stats


class Actions(BaseModel):
    """What the control endpoint can do besides turning switches."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    rotate_key: bool = Field(False, description="sign with a new key from now on")
    end_sessions: str | None = Field(
        None,
        description="end the single sign-on sessions of a user, or of everybody (`*`), and send "
        "their back-channel logout tokens",
    )
    revoke_grants: str | None = Field(
        None, description="end every grant of a user, or of everybody (`*`), with all its tokens"
    )
    reset_stats: bool = Field(False, description="count from zero")


class Control:
    """Handlers of `/_rehearsal`."""

    def __init__(self, provider: DemoProvider, courier: Courier) -> None:
        self._provider = provider
        self._courier = courier

    async def show(self, _: web.Request) -> web.Response:
        """How the switches stand, and what has happened. No token, no secret."""
        provider = self._provider
        body = {
            "notice": WARNING,
            "issuer": provider.issuer,
            "switches": provider.options.switches(),
            "stats": asdict(provider.stats),
        }
        return web.json_response(body, headers=NO_STORE)

    async def accept(self, request: web.Request) -> web.Response:
        """A JSON object of switches and actions; the answer is as above.

        JSON only: no page elsewhere can send that here without being asked first (CORS).
        """
        if request.content_type != "application/json":
            return _complaint(415, "send application/json")
        try:
            changes = json.loads(await request.text())
        except ValueError:
            return _complaint(400, "this is not JSON")
        if not isinstance(changes, dict):
            return _complaint(400, "send an object")
        try:
            await self._change(changes)
        except ValidationError as error:
            return _complaint(422, faults(error))
        return await self.show(request)

    async def _change(self, changes: Mapping[str, Any]) -> None:
        """Turns switches and carries out actions, all or none. Raises `ValidationError`."""
        provider = self._provider
        names = Actions.model_fields
        actions = Actions.model_validate({k: v for k, v in changes.items() if k in names})
        provider.set(**{k: v for k, v in changes.items() if k not in names})
        if actions.reset_stats:
            provider.stats = Stats()
        if actions.rotate_key:
            provider.rotate_key()
        if actions.revoke_grants is not None:
            provider.state.revoke_grants(actions.revoke_grants)
        if actions.end_sessions is not None:
            await self._courier.deliver(provider.end_all(actions.end_sessions), provider.stats)


def _complaint(status: int, what: object) -> web.Response:
    return web.json_response({"error": what}, status=status)
