"""The benchmark runs, ends cleanly, and refuses to report what it did not measure."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sidecar.core.formats import FORMATS
from sidecar.explain import explain

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tests" / "bench"
COMMAND = (sys.executable, str(BENCH), "--quick", "--rounds", "1")
PROXIES = ["nginx", "caddy", "sidecar"]

FINE = {"requests": 10, "bytes": 5000, "microseconds": 2e6, "p50": 90, "p99": 200} | dict.fromkeys(
    ("connect", "read", "write", "status", "timeout"), 0
)


@pytest.fixture
def programs(require_program: Callable[[str], str]) -> None:
    for name in ("nginx", "caddy", "wrk"):
        require_program(name)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the script, which finds the others beside itself."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


def table(text: str, first_head: str) -> list[dict[str, str]]:
    """The rows of the Markdown table whose first column has that head."""
    block = next(part for part in text.split("\n\n") if part.startswith(f"| {first_head} |"))
    heads, rule, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()
    )
    assert set(rule) == {"---"}
    return [dict(zip(heads, cells, strict=True)) for cells in rows]


def numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    else:
        assert isinstance(value, int | float)
        yield value


@pytest.mark.usefixtures("programs")
def test_a_short_run_tells_of_every_contender(tmp_path: Path) -> None:
    """One round of two seconds and a start each: the tables' shape, and numbers above zero."""
    file = tmp_path / "results.json"
    options = ("--seconds", "2", "--only", "1k-32", "--only", "start", "--json", str(file))
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    load, cost = table(done.stdout, "load"), table(done.stdout, "cost")
    assert [row["contender"] for row in load] == [*PROXIES, "access log on"]
    assert [row["contender"] for row in cost] == PROXIES
    for row in load:
        assert float(row["CPU µs per request"]) > 0
        assert int(row["requests/s"].replace(",", "")) > 0
    for row in load[1:]:
        assert re.fullmatch(r"[\d.]+ \([\d.]+-[\d.]+\)", row["ratio to nginx"])
    assert all(re.fullmatch(r"[\d.]+ ms", row["value"]) for row in cost)
    results = json.loads(file.read_text())
    assert results["conditions"]["seconds each"] == 2
    measured = list(numbers([results["loads"], results["rests"]]))
    assert len(measured) == 4 * 5 + 3
    assert all(number > 0 for number in measured)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_an_interrupted_run(tmp_path: Path, number: signal.Signals) -> None:
    """Neither a server nor a file."""
    process = subprocess.Popen(
        [*COMMAND, "--seconds", "30", "--only", "1k-32"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "round 1 of 1" in process.stderr.readline()
        assert len(mentioning(tmp_path)) >= 4  # the upstream and the contenders
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    finally:
        process.kill()
        process.communicate()
    assert not mentioning(tmp_path)
    assert not list(tmp_path.iterdir())


def mentioning(path: Path) -> list[str]:
    """The processes that were started with a file in that directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if os.fsencode(path) in command:
                found.append(entry.name)
    return found


def test_missing_programs_are_named_with_their_packages(tmp_path: Path) -> None:
    """Exit code 2, as for wrong usage."""
    done = subprocess.run(
        COMMAND,
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert re.search(r"apt-get install .*\bcaddy wrk$", done.stderr.strip())
    assert not done.stdout


def test_a_load_of_right_answers_counts(module: Callable[[str], ModuleType]) -> None:
    load = module("wrk").judge("sidecar", FINE, 500)
    assert (load.requests, load.per_second, load.p50, load.p99) == (10, 5, 90, 200)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"status": 1}, "1 status"),  # a status above 399
        ({"connect": 2, "timeout": 1}, "2 connect, 1 timeout"),
        ({"read": 1}, "1 read"),
        ({"write": 1}, "1 write"),
        ({"requests": 0}, "did not answer"),
        ({"bytes": 4999}, "less than its sample"),  # a redirect among them
    ],
)
def test_a_load_of_other_answers_fails(
    module: Callable[[str], ModuleType], change: dict[str, int], told: str
) -> None:
    wrk, faults = module("wrk"), module("faults")
    with pytest.raises(faults.BenchError, match=told):
        wrk.judge("sidecar", FINE | change, 500)


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": []}',
        b"[]",
        b"not JSON",
        b'{"isError":true,"message":null,"data":[1],"status":200,"errorData":null}',
        b'{"isError":false,"message":null,"data":[2],"status":200,"errorData":null}',
        b'{"isError":false,"message":null,"data":[1],"status":200}',
    ],
)
def test_another_body_is_no_envelope(module: Callable[[str], ModuleType], body: bytes) -> None:
    """The sample of an answer has to be the envelope of the upstream's own bytes."""
    samples, faults = module("samples"), module("faults")
    with pytest.raises(faults.BenchError, match="envelope"):
        samples.check_envelope("sidecar", body, b"[1]")


def test_the_envelope_of_a_success_is_one(module: Callable[[str], ModuleType]) -> None:
    body = b'{"isError":false,"message":null,"data":[1],"status":200,"errorData":null}'
    module("samples").check_envelope("sidecar", body, b"[1]")


def test_ratios_are_taken_within_a_round(module: Callable[[str], ModuleType]) -> None:
    """A slow moment slows both, so it must not count against one."""
    load, report, wrk = module("load"), module("report"), module("wrk")
    seen = wrk.Load(1, 1.0, 1.0, 1.0)
    rounds = [
        {"nginx": load.Sample(nginx, seen), "sidecar": load.Sample(sidecar, seen)}
        for nginx, sidecar in ((10.0, 20.0), (40.0, 100.0), (10.0, 30.0))
    ]
    assert report.ratios(rounds, "sidecar", "nginx") == [2.0, 2.5, 3.0]
    assert report.spread([2.0, 3.0, 2.5]) == "2.50 (2.00-3.00)"


def test_the_readme_takes_the_tables(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """`--write` replaces what stands between the markers, and nothing else."""
    report = module("report")
    file = Path(shutil.copy(BENCH / "README.md", tmp_path))
    before = file.read_text(encoding="utf-8")
    report.write_into(file, "first\n")
    report.write_into(file, "| second |\n")
    after = file.read_text(encoding="utf-8")
    assert after.split(report.BEGIN)[0] == before.split(report.BEGIN)[0]
    assert after.split(report.END)[1] == before.split(report.END)[1]
    assert f"{report.BEGIN}\n| second |\n{report.END}" in after
    assert "first\n" not in after.split(report.BEGIN)[1]


def test_a_readme_without_markers_is_left_alone(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    report, faults = module("report"), module("faults")
    file = tmp_path / "README.md"
    file.write_text(f"{report.BEGIN} only")
    with pytest.raises(faults.BenchError, match="markers"):
        report.write_into(file, "tables")
    assert file.read_text() == f"{report.BEGIN} only"


def test_the_session_cookie_opens_into_its_token(module: Callable[[str], ModuleType]) -> None:
    """The header is 600 bytes long and holds what the sidecar's own reader of Auth.js finds."""
    login = module("authjs").log_in()
    told = explain([FORMATS["authjs"](secrets=[login.secret])], login.header, time.time())
    assert len(login.header) == 600
    assert told["result"] == "ok", told["why"]
    assert login.secret not in repr(login)
    assert login.token not in repr(login)
