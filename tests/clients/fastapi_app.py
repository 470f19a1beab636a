"""A FastAPI application as most are: routes with a slash at their end, and redirects to them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import FastAPI, Header, Request
from fastapi.responses import RedirectResponse

app: Final = FastAPI()


@app.get("/items/")
async def items(request: Request, authorization: Annotated[str, Header()] = "") -> dict[str, str]:
    return {"scheme": request.url.scheme, "authorization": authorization}


@app.post("/login/")
async def login(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("items"), status_code=303)
