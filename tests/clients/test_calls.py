"""Clients of APIs: tRPC's streaming batches, and how GraphQL clients read the sidecar's own 401."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Play, Script
    from tests.conftest import Embedded, Start


async def api_of(script: Script, sidecar: Start, **more: Any) -> Embedded:
    """A sidecar whose API is the script's server, without an envelope."""
    api = {"kind": "api", "upstream": "main", "envelope": False}
    return await sidecar(
        upstreams=script.upstreams,
        routes=[{"path": "/rpc/", "strip": "/rpc", **api, **more}],
    )


def url_of(at: Embedded, path: str = "/rpc") -> str:
    return f"http://127.0.0.1:{at.port}{path}"


async def test_trpc_batch_streams(play: Play, sidecar: Start) -> None:
    """The fast call's answer comes while the slow one is still out; its JSON lines call themselves
    application/json.
    """
    script = await play("trpc.mjs")
    at = await api_of(script, sidecar)
    told = await script.do("batch", url=url_of(at), cookie="access_token=tok")
    assert told == ["tok", "tok", "slow"]


async def test_trpc_call_without_the_api_s_trust(play: Play, sidecar: Start) -> None:
    """tRPC answers 401 in its own form, which counts; the client hears of an error."""
    script = await play("trpc.mjs")
    at = await api_of(script, sidecar, on_unauthorized="envelope")
    assert (await script.do("refused", url=url_of(at), cookie="access_token=old"))[1] == 401


@pytest.mark.parametrize("more", [{}, {"errors": "graphql"}], ids=["by accept", "by key"])
@pytest.mark.parametrize("library", ["urql", "apollo"])
async def test_graphql_client_sees_an_error_in_the_sidecar_s_own_401(
    play: Play, sidecar: Start, library: str, more: dict[str, str]
) -> None:
    """An envelope's `data: null` is a result for urql; both accept GraphQL's own media type."""
    script = await play("graphql.mjs")
    api = {"kind": "api", "upstream": "main", "envelope": False, **more}
    at = await sidecar(
        upstreams=script.upstreams,
        routes=[
            {"path": "/graphql/", **api},
            {"path": "/graphql/soft/", **api, "on_unauthorized": "envelope"},
        ],
    )
    site = f"http://127.0.0.1:{at.port}"
    good = await script.do(library, url=f"{site}/graphql", cookie="access_token=good")
    assert good["data"]["me"]["id"] == "good"
    for path, cookie, code in (
        ("/graphql/soft", "access_token=old", "token_rejected"),
        ("/graphql/soft", "theme=dark", "session_required"),
        ("/graphql", "access_token=older", "session_expired"),
        ("/graphql", "theme=dark", "session_expired"),
    ):
        told = await script.do(library, url=site + path, cookie=cookie)
        assert told == {"data": None, "status": 401, "codes": [code]}, path
