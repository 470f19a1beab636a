"""Serving: on the loopback interface alone, in this process or as a command."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import aiohttp
import pytest
from click.testing import CliRunner

from sidecar.demo.idp import running_idp
from sidecar.demo.idp.command import command
from sidecar.demo.idp.options import Options
from tests.demo.idp.party import CALLBACK, StartParty

PATIENCE = 20.0

StartCommand: TypeAlias = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def idp_command() -> AsyncIterator[StartCommand]:
    """`await idp_command(*flags)` runs the command; returns the process and the issuer."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(*flags: str) -> tuple[asyncio.subprocess.Process, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar.demo.idp", *flags),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode()
        assert "Rehearsal identity provider: " in line
        return process, line.split(": ")[1].split()[0]

    yield start
    for one in processes:
        if one.returncode is None:
            one.kill()
        await one.communicate()


def fetch(url: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 # ours
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        return json.load(answer)


async def test_the_command_serves_until_sigterm(idp_command: StartCommand) -> None:
    """With flags, and the control endpoint for other languages."""
    process, issuer = await idp_command("--access-token-lifetime", "5", "--user", "carol")
    told = await asyncio.to_thread(fetch, f"{issuer}/.well-known/openid-configuration")
    assert told["issuer"] == issuer
    state = await asyncio.to_thread(fetch, f"{issuer}/_rehearsal", {"sign_in_as": "carol"})
    assert state["switches"]["access_token_lifetime"] == 5
    assert state["switches"]["sign_in_as"] == "carol"
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0
    assert "for demos and tests only" in out.decode() + err.decode()
    assert "Traceback" not in err.decode()


async def test_a_taken_port_is_said_so(idp_command: StartCommand) -> None:
    _, issuer = await idp_command()
    port = issuer.rsplit(":", 1)[1]
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar.demo.idp", "--port", port), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        _, err = await second.communicate()
    assert (second.returncode, err.count(b"\n")) == (2, 1)
    assert b"choose another --port" in err


def test_wrong_flags_are_all_said_at_once() -> None:
    flags = ["--outage", "flood", "--access-token-lifetime", "soon", "--redirect-uri", "/relative"]
    result = CliRunner().invoke(command, flags)
    assert result.exit_code == 2
    for place in ("outage: ", "access_token_lifetime: ", "redirect_uris.0: "):
        assert place in result.output
    assert "Traceback" not in result.output


def test_every_option_is_a_flag() -> None:
    """But further clients, which are for Python."""
    names = {one.name for one in command.params}
    assert names == set(Options.model_fields) - {"clients"}
    flags = {flag for one in command.params for flag in one.opts}
    assert {"--redirect-uri", "--user", "--outage-of", "--reuse-detection"} <= flags


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--rotation", "false"], {"rotation": False}),
        (["--burst", "3"], {"burst": 3}),
        (["--burst", "all"], {"burst": "all"}),
        (["--client-secret", ""], {"client_secret": ""}),
        (["--outage-of", "token", "--outage-of", "jwks"], {"outage_of": ("token", "jwks")}),
    ],
)
def test_flags_are_read_as_options(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: dict[str, object]
) -> None:
    seen: list[Options] = []

    async def serve(options: dict[str, object]) -> None:
        seen.append(Options.model_validate(options))

    monkeypatch.setattr("sidecar.demo.idp.command._serve", serve)
    result = CliRunner().invoke(command, flags)
    assert result.exit_code == 0, result.output
    assert {name: getattr(seen[0], name) for name in expected} == expected


# -- in this process ------------------------------------------------------------------------------


async def test_only_the_loopback_interface_is_listened_on(party: StartParty) -> None:
    """The machine's other addresses refuse, where it has any."""
    alice = await party()
    port = int(alice.idp.issuer.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", port)
    with pytest.raises(ValueError, match="host"):
        async with running_idp(host="0.0.0.0"):
            raise AssertionError("it serves")


async def test_localhost_is_another_host_for_cookies(party: StartParty) -> None:
    """So a login there leaves an application at 127.0.0.1 without the provider's cookies."""
    alice = await party(host="localhost")
    assert alice.idp.issuer.startswith("http://localhost:")
    told = (await alice.ask("GET", "/.well-known/openid-configuration")).json
    assert told["issuer"] == alice.idp.issuer
    await alice.log_in()
    assert {one["domain"] for one in alice.http.cookie_jar} == {"localhost"}


async def test_both_addresses_of_localhost_are_served(party: StartParty) -> None:
    """Whichever a client tries first."""
    with socket.socket(socket.AF_INET6) as probe, suppress(OSError):
        probe.bind(("::1", 0))
        alice = await party(host="localhost")
        port = alice.idp.issuer.rsplit(":", 1)[1]
        for address in ("127.0.0.1", "[::1]"):
            url = f"http://{address}:{port}/jwks"
            async with aiohttp.ClientSession() as http, http.get(url) as answer:
                assert answer.status == 200


async def test_several_providers_run_side_by_side(party: StartParty) -> None:
    """What one has issued is nothing to the other."""
    one, two = await party(), await party()
    token = (await one.tokens())["access_token"]
    assert one.idp.verify(token).is_live
    assert two.idp.verify(token).verdict == "unknown"


async def test_the_end_does_not_wait_for_slow_answers(party: StartParty) -> None:
    """Nor does it leave a task or a listener behind."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE):
        async with running_idp(refresh_delay=1000, signing_algorithm="ES256") as idp:
            form = {"grant_type": "refresh_token", "client_id": "app"}
            form |= {"client_secret": "rehearsal-only"}
            form |= {"refresh_token": idp.tokens()["refresh_token"]}

            async def refresh() -> None:
                async with (
                    aiohttp.ClientSession() as http,
                    http.post(f"{idp.issuer}/token", data=form),
                ):
                    pass

            waiting = asyncio.create_task(refresh())
            while idp.stats.refresh_exchanges == 0:
                await asyncio.sleep(0.01)
        with pytest.raises(aiohttp.ClientError):
            await waiting
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(idp.issuer.rsplit(":", 1)[1]))
    assert asyncio.all_tasks() == before


async def test_the_start_is_loud(party: StartParty, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "sidecar.demo")  # a benchmark in this process has it quieter
    alice = await party()
    (record,) = [one for one in caplog.records if one.name.startswith("sidecar.demo.idp")]
    assert record.levelname == "WARNING"
    assert alice.idp.issuer in record.getMessage()
    assert "for demos and tests only" in record.getMessage()


@pytest.mark.parametrize(
    "uri",
    [
        "/callback",
        "callback",
        "http:///callback",
        "javascript:alert(1)",
        f"{CALLBACK}#fragment",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/ü",
    ],
)
def test_what_cannot_be_redirected_to_cannot_be_registered(uri: str) -> None:
    """RFC 6749 section 3.1.2."""
    names = ("redirect_uris", "post_logout_redirect_uris")
    for name in names:
        with pytest.raises(ValueError, match=name):
            Options.model_validate({name: [uri]})
    for name in ("backchannel_logout_uri", "frontchannel_logout_uri"):
        with pytest.raises(ValueError, match=name):
            Options.model_validate({name: uri})
