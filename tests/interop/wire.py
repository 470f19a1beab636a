"""A forward proxy between the sidecar and its provider that notes what they say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web


@dataclass(frozen=True)
class Noted:
    """A request to the provider, and its answer. `form` and `answer` are empty for other types."""

    path: str
    form: dict[str, str]
    status: int
    answer: dict[str, Any]


class Wire:
    """Passes on whatever it is asked for (`outbound.proxy`)."""

    def __init__(self, port: int) -> None:
        self.port: Final = port
        self.noted: Final[list[Noted]] = []
        self._runner: web.ServerRunner | None = None
        self._asking: ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._asking = ClientSession(
            connector=TCPConnector(force_close=True),
            timeout=ClientTimeout(total=30),
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(web.Server(self._pass_on))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._asking is not None:
            await self._asking.close()

    # -- what was noted -------------------------------------------------------------------------

    def grants(self, grant_type: str) -> list[Noted]:
        """The requests of a grant type at the token endpoint, in order."""
        return [one for one in self.noted if one.form.get("grant_type") == grant_type]

    @property
    def exchanges(self) -> list[Noted]:
        """The refresh tokens that were exchanged, in order."""
        return self.grants("refresh_token")

    @property
    def tokens(self) -> set[str]:
        """Every token and code that has come over the wire."""
        names = ("access_token", "refresh_token", "id_token", "code", "code_verifier")
        return {
            text
            for one in self.noted
            for said in (one.form, one.answer)
            for name in names
            if isinstance(text := said.get(name), str) and text
        }

    # -- passing on -----------------------------------------------------------------------------

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._asking is not None
        body = await request.read()
        skipped = ("host", "content-length", "transfer-encoding", "connection", "proxy-connection")
        fields = [pair for pair in request.headers.items() if pair[0].lower() not in skipped]
        try:
            async with self._asking.request(
                request.method, request.url, headers=fields, data=body, allow_redirects=False
            ) as answer:
                got = await answer.read()
        except (ClientError, OSError, TimeoutError):
            return web.Response(status=502)
        self._note(request, body, answer.status, got)
        kept = [pair for pair in answer.headers.items() if pair[0].lower() not in skipped]
        return web.Response(status=answer.status, body=got, headers=kept)

    def _note(self, request: web.BaseRequest, body: bytes, status: int, got: bytes) -> None:
        is_form = request.content_type == "application/x-www-form-urlencoded"
        form = dict(parse_qsl(body.decode("latin-1"))) if is_form else {}
        try:
            answer = msgspec.json.decode(got)
        except (ValueError, RecursionError):
            answer = {}
        known = answer if isinstance(answer, dict) else {}
        self.noted.append(Noted(request.url.path, form, status, known))
