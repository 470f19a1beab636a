"""What Uvicorn serves for `oracles`: a route and a mount, and files."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


async def gated(request: Request) -> PlainTextResponse:
    return PlainTextResponse("what-is-gated-7391")


routes = Starlette(routes=[Route("/gated/{rest:path}", gated)])
files = Starlette(routes=[Mount("/", StaticFiles(directory=os.environ.get("FUZZ_ROOT", ".")))])
