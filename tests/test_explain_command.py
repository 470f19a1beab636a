"""`sidecar explain --json` reads the libraries' cookies as the libraries do, from a real file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.cli import cli

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "authjs.json").read_text()
)["vectors"]
TYPES = {
    "authjs-v5": "authjs",
    "nextauth-v4": "nextauth",
    "iron": "iron-session",
    "auth0-v4": "auth0",
    "better-auth-account": "better-auth",
}
MEMBERS = [
    "result",
    "source",
    "cookie",
    "chunks",
    "token_sha256",
    "expires_at",
    "header_bytes",
    "why",
]


def config_of(vector: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose only source has the vector's secrets, cookie name and claim path."""
    source: dict[str, Any] = {
        "type": TYPES[vector["format"]],
        "cookie": vector["cookie_name"].removeprefix("__Secure-").removeprefix("__Host-"),
        "token": vector["claim_path"],
    }
    if source["type"] == "iron-session":
        source["password"] = dict(zip(vector["password_ids"], vector["secrets"], strict=True))
    else:
        source["secret"] = vector["secrets"]
    return {"upstream": "http://127.0.0.1:9", "session": {"sources": [source]}}


def allowed_results(vector: dict[str, Any]) -> set[str]:
    """The results that the vector's file allows."""
    allowed = {vector["expect"].get("error", "ok"), *vector.get("also_ok", ())}
    allowed |= {"ok"} if vector.get("lenient_ok") else set()
    return allowed | ({"invalid"} if vector.get("strict_ok") else set())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['id']}-{vector['kind']}")
def test_the_command_reads_a_librarys_cookie(vector: dict[str, Any], tmp_path: Path) -> None:
    """The verdict is the library's own; the token is told by its hash only."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(json.dumps(config_of(vector)))
    header = "; ".join(f"{name}={value}" for name, value in vector["cookies"].items())
    arguments = ["explain", "-c", str(file), "--now", str(vector["now"]), "--json"]
    done = CliRunner().invoke(cli, arguments, input=header)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert list(told) == MEMBERS
    assert told["result"] in allowed_results(vector)
    assert told["header_bytes"] == len(header)
    token = vector["expect"].get("access_token")
    if told["result"] == "ok" and token is not None:
        assert told["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()
        assert token not in done.output
