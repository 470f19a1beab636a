"""Session cookies that real libraries set through a running sidecar, and what ends them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Play
    from tests.conftest import Answer, Client, Clients, Embedded, Start

HOST: Final = "app.example.com"
SCRIPT: Final = [
    f"Origin: http://{HOST}",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Dest: empty",
    "Accept: application/json",
]
API: Final = {"upstream": "main", "on_unauthorized": "envelope"}  # 401 without a way to the logout
PASSWORD: Final = "a password of these tests, 32 bytes"


def session_of(answer: Answer, name: str) -> str:
    """The Cookie header of a browser after an answer that sets a session."""
    pairs = [line.split(";")[0] for line in answer.all("Set-Cookie")]
    (session,) = [pair for pair in pairs if pair.startswith(f"{name}=") and pair != f"{name}="]
    return f"theme=dark; {session}"


def expires(answer: Answer, name: str) -> bool:
    lines = [line for line in answer.all("Set-Cookie") if line.startswith(f"{name}=")]
    return any("Max-Age=0" in line or "1970" in line for line in lines)


async def with_better_auth(play: Play, sidecar: Start) -> Embedded:
    script = await play("better-auth.mjs")
    return await sidecar(
        upstreams=script.upstreams,
        routes=[
            {"path": "/api/auth/", "kind": "page", "upstream": "main"},
            {"path": "/api/", "kind": "api", "strip": "/api", **API},
        ],
        session={"sources": [{"type": "cookie", "cookie": "better-auth.session_token"}]},
    )


async def post(client: Client, path: str, cookie: str | None = None, **members: Any) -> Answer:
    """JSON from a page of this site."""
    fields = [*SCRIPT, "Content-Type: application/json"]
    fields += [] if cookie is None else [f"Cookie: {cookie}"]
    return await client.post(path, *fields, body=json.dumps(members).encode())


async def signed_up(client: Client) -> str:
    """A new user's Cookie header."""
    user = {"email": "zoe@example.com", "password": PASSWORD, "name": "Zoë"}
    answer = await post(client, "/api/auth/sign-up/email", **user)
    assert answer.status == 200, answer.body
    return session_of(answer, "better-auth.session_token")


async def test_better_auth_session_token(play: Play, sidecar: Start, client: Clients) -> None:
    """It is signed and percent-encoded; the API's bearer plugin takes it, until the logout."""
    wire = await client(await with_better_auth(play, sidecar))
    cookie = await signed_up(wire)
    assert "%" in cookie
    known = await wire.get("/api/me", f"Cookie: {cookie}", *SCRIPT)
    assert (known.status, known.json["data"]) == (200, "zoe@example.com")

    logout = await post(wire, "/api/logout", cookie)
    assert logout.status == 200
    assert expires(logout, "better-auth.session_token")
    again = await wire.get("/api/me", f"Cookie: {cookie}", *SCRIPT)
    assert again.status == 401


async def test_better_auth_signs_out_by_itself(play: Play, sidecar: Start, client: Clients) -> None:
    """Then the session has ended at the sidecar too."""
    wire = await client(await with_better_auth(play, sidecar))
    cookie = await signed_up(wire)
    assert (await wire.get("/api/me", f"Cookie: {cookie}", *SCRIPT)).status == 200
    out = await post(wire, "/api/auth/sign-out", cookie)
    assert (out.status, expires(out, "better-auth.session_token")) == (200, True)
    again = await wire.get("/api/me", f"Cookie: {cookie}", *SCRIPT)
    assert again.status == 401


@pytest.mark.parametrize(("library", "more"), [("h3", {}), ("h3-2", {"iterations": 8192})])
async def test_h3_session(
    *, play: Play, sidecar: Start, client: Clients, library: str, more: dict[str, int]
) -> None:
    """nuxt-auth-utils keeps what is not for the browser under `secure` in a session of h3 1.

    TanStack Start has those of h3 2.
    """
    script = await play("h3.mjs", library=library, password=PASSWORD)
    token = "data.secure.accessToken"
    iron = {"type": "iron-session", "cookie": "nuxt-session", "password": PASSWORD, "token": token}
    at = await sidecar(
        upstreams=script.upstreams,
        routes=[
            {"path": "/api/", "kind": "api", "strip": "/api", **API},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        session={"sources": [iron | more]},
    )
    wire = await client(at)
    cookie = session_of(await wire.get("/page?token=tok-1", *SCRIPT), "nuxt-session")
    known = await wire.get("/api/me", f"Cookie: {cookie}", *SCRIPT)
    assert (known.status, known.json["data"]) == (200, "tok-1")
    page = await wire.get("/page", f"Cookie: {cookie}", *SCRIPT)
    assert page.json["user"] == {"name": "Zoë"}

    logout = await wire.post("/api/logout", f"Cookie: {cookie}", *SCRIPT)
    assert (logout.status, expires(logout, "nuxt-session")) == (200, True)
    assert (await wire.get("/api/me", f"Cookie: {cookie}", *SCRIPT)).status == 401
    gone = await wire.get("/page", f"Cookie: {cookie}", *SCRIPT)
    assert "user" not in (gone.json or {})
