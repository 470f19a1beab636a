"""A defect of the sidecar or of a library says where it is, and no secret that it held (T46)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.leaks.broken import DEFECTS
from tests.leaks.canaries import Sought, canary
from tests.leaks.site import ROOT, Running, running

BROKEN = ("-m", "tests.leaks.broken")
WAYS = frozenset(
    ("planned", "uvloop.loop.Handle._run", "fail_later", "run", "__del__", "healthy", "loaded")
)
"""The functions by which the defects come about: of a request, a callback, a task, a thread, …"""


def lines(one: Running) -> list[dict[str, Any]]:
    """The whole log; each line of it is JSON."""
    return [json.loads(line) for line in one.log.read_text().splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
async def test_defect_says_where_and_not_what(tmp_path: Path, workers: int) -> None:
    """In a request, a callback, a forgotten task, a thread, a library, on the admin listener."""
    secret = canary("cookie")
    config = {"upstream": "http://127.0.0.1:1", "workers": workers, "drain": {"wait": "0s"}}
    async with running(tmp_path, config, program=BROKEN) as one:
        assert one.process is not None
        for path in DEFECTS:
            await one.ask("GET", path, headers={"Cookie": f"a={secret}"})
        await one.ask_admin(f"/healthz?a={secret}", cookie=secret)
        one.file.write_text(json.dumps({**one.config, "secret": f"DEFECT {secret}"}))
        one.process.send_signal(signal.SIGHUP)
        for way in (*WAYS, "three", "UserWarning", "RuntimeWarning"):
            await one.logs(f'{way}"')
        one.process.terminate()
        await one.process.wait()
        told = lines(one)
        one.told("log", one.log.read_bytes())
    assert {sink: Sought("cookie", secret).context(data) for sink, data in one.sinks.items()} == (
        dict.fromkeys(one.sinks, "")
    )
    defects = [line for line in told if line["event"] in ("defect", "reload failed")]
    assert {line["error"] for line in defects} == {"Defect"}
    innermost = [[place.rpartition(" ")[2] for place in line["traceback"]] for line in defects]
    assert all(names[-1] == "fail" for names in innermost)
    assert {way for way in WAYS for names in innermost if way in names} == WAYS
    libraries = {line["library"]: line for line in told if line["event"] == "library"}
    assert libraries["one"]["detail"] == "it is …, 3 times"
    assert "detail" not in libraries["two"]
    assert (libraries["three"]["detail"], libraries["three"]["error"]) == ("it failed", "Defect")
    assert {"UserWarning", "RuntimeWarning"} <= libraries.keys()
    assert all("broken.py:" in libraries[name]["place"] for name in ("one", "two", "UserWarning"))


@pytest.mark.parametrize("command", ["run", "check", "explain"])
def test_command_that_ends_with_a_defect_shows_no_text_of_it(tmp_path: Path, command: str) -> None:
    """It says where it was, too."""
    secret = canary("secret")
    file = tmp_path / "sidecar.yaml"
    file.write_text(f"secret: {secret}")
    program = (
        "import sidecar.core.config.load, sys\n"
        "from sidecar.cli import main\n"
        "def read_tree(text, *_):\n    raise ValueError(text)\n"
        "sys.modules['sidecar.core.config.load'].read_tree = read_tree\nmain(sys.argv[1:])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, command, "-c", str(file)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert secret not in ended.stdout + ended.stderr
    said = ended.stderr.splitlines()
    assert (said[0], said[-1]) == ("a defect of the sidecar:", "ValueError")
    assert any("load.py:" in place for place in said)
