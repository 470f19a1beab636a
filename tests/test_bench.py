"""The benchmark runs, ends cleanly, and refuses to report what it did not measure."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.core.formats import FORMATS
from sidecar.explain import explain
from tests.bench import cookies, plot, report, results, rows, samples, servers, wrk
from tests.bench.faults import BenchError
from tests.bench.samples import Ask

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tests" / "bench"
COMMAND = (sys.executable, str(BENCH), "--quick", "--rounds", "1")

MEASURED = ("beside", "wires", "features", "growth", "costs")
FINE = {"requests": 10, "bytes": 5000, "microseconds": 2e6, "p50": 90, "p99": 200} | dict.fromkeys(
    ("connect", "read", "write", "status", "timeout"), 0
)


@pytest.fixture
def programs(require_program: Callable[[str], str]) -> None:
    for name in ("nginx", "caddy", "wrk"):
        require_program(name)


def table(text: str, first_head: str) -> list[dict[str, str]]:
    """The rows of the Markdown table whose first column has that head."""
    block = next(part for part in text.split("\n\n") if part.startswith(f"| {first_head} |"))
    heads, rule, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()
    )
    assert set(rule) == {"---"}
    return [dict(zip(heads, cells, strict=True)) for cells in rows]


@pytest.mark.usefixtures("programs")
def test_a_short_run_tells_of_every_contender(tmp_path: Path) -> None:
    """One round of a second, and its memory. Who is missing is named."""
    file = tmp_path / "results.json"
    options = ("--only", "1k-32", "--only", "rest", "--json", str(file))
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    beside, costs = table(done.stdout, "contender"), table(done.stdout, "cost")
    assert [row["contender"] for row in beside] == list(servers.BESIDE)
    run = results.decoded(file.read_bytes())
    there = [name for name in servers.BESIDE if name not in run.missing]
    assert {"nginx", "Caddy", "sidecar"} <= set(there)
    for row in beside:
        if row["contender"] in run.missing:
            assert row["does"] == f"missing: `{run.missing[row['contender']]}`"
        else:
            assert re.fullmatch(r"[\d.]+ \([\d.]+(-[\d.]+| µs)\)", row["1 KB, 32 connections"])
    assert [row["contender"] for row in costs] == there
    assert all(re.fullmatch(r"[\d.]+ MiB", row["value"]) for row in costs)
    assert run.conditions["seconds each"] == 1
    taken = [sample for rounds in run.rows.values() for one in rounds for sample in one.values()]
    assert len(taken) == 2 * len(there)
    assert all(number > 0 for sample in taken for number in sample.values())


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
        assert any("warm-up" in line for line in process.stderr)
        end = time.monotonic() + 60
        while not mentioning(tmp_path, "load.lua") and time.monotonic() < end:
            time.sleep(0.05)
        assert len(mentioning(tmp_path)) >= 3  # the upstream, the first contender and wrk
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    finally:
        process.kill()
        process.communicate()
    assert not mentioning(tmp_path)
    assert not list(tmp_path.iterdir())


def mentioning(path: Path, file: str = "") -> list[str]:
    """The processes that were started with a file (of that name) in that directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if os.fsencode(path) in command and file.encode() in command:
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
    assert re.search(r"apt-get install .*\bwrk$", done.stderr.strip())
    assert not done.stdout


def test_a_load_of_right_answers_counts() -> None:
    load = wrk.judge("sidecar", FINE, Ask("/"), 500)
    assert (load.requests, load.per_second, load.p50, load.p99) == (10, 5, 90, 200)


def test_a_load_of_errors_counts_where_they_are_due() -> None:
    """Each of them, and no other answer among them."""
    due = Ask("/", status=401)
    assert wrk.judge("sidecar", FINE | {"status": 10}, due, 500).requests == 10
    with pytest.raises(BenchError, match="9 status"):
        wrk.judge("sidecar", FINE | {"status": 9}, due, 500)


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
def test_a_load_of_other_answers_fails(change: dict[str, int], told: str) -> None:
    with pytest.raises(BenchError, match=told):
        wrk.judge("sidecar", FINE | change, Ask("/"), 500)


DOCUMENT = b'{"data": [1]}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": []}',
        b"[]",
        b"not JSON",
        b'{"isError":true,"message":null,"data":[1],"status":200,"errorData":null}',
        b'{"isError":false,"message":null,"data":[2],"status":200,"errorData":null}',
        b'{"isError":false,"message":null,"data":[1],"status":200}',
        b'{"isError":false,"message":null,"data":[1.0],"status":200,"errorData":null}',
    ],
)
def test_another_body_is_no_envelope(body: bytes) -> None:
    """The sample of an answer has to be the envelope of the upstream's own bytes."""
    assert not samples.is_spliced(body, DOCUMENT)


def test_the_envelope_of_a_success_is_one() -> None:
    body = b'{"isError":false,"message":null,"data":[1],"status":200,"errorData":null}'
    assert samples.is_spliced(body, DOCUMENT)


def test_ratios_are_taken_within_a_round() -> None:
    """A slow moment slows both, so it must not count against one."""
    rounds = [
        {"nginx": {"cpu": nginx}, "sidecar": {"cpu": sidecar}}
        for nginx, sidecar in ((10.0, 20.0), (40.0, 100.0), (10.0, 30.0))
    ]
    assert results.ratios(rounds, "sidecar", "nginx") == [2.0, 2.5, 3.0]
    assert report.spread([2.0, 3.0, 2.5]) == "2.50 (2.00-3.00)"


def test_a_contender_that_is_missing_is_named() -> None:
    """With what helps, in its line of the table."""
    cpu = {"cpu": 1.0}
    there = {name: cpu for name in servers.BESIDE if name != "Caddy"}
    run = results.Results({}, {"Caddy": "apt-get install caddy"}, {"1k-32": [there]})
    lines = {
        row["contender"]: row["does"] for row in table(report.parts(run)["beside"], "contender")
    }
    assert lines["Caddy"] == "missing: `apt-get install caddy`"
    assert "missing" not in lines["nginx"]


def test_the_page_has_what_was_measured() -> None:
    """Its tables are those that the kept data make; --write makes both."""
    page = report.PAGE.read_text(encoding="utf-8")
    kept = results.decoded(results.FILE.read_bytes())
    made = report.parts(kept)
    assert set(kept.rows) <= set(rows.ROWS)
    assert {"conditions", "beside", "sizing"} <= set(made) <= {*MEASURED, "conditions", "sizing"}
    for name, part in made.items():
        assert f"<!-- {name} -->\n{part}\n<!-- /{name} -->\n" in page
    assert plot.FILE.read_text(encoding="utf-8") == plot.svg(kept)


def test_the_page_takes_the_tables(tmp_path: Path) -> None:
    """`--write` replaces what stands between the markers, and nothing else."""
    file = Path(shutil.copy(report.PAGE, tmp_path))
    before = file.read_text(encoding="utf-8")
    report.write_into(file, {"beside": "first"})
    report.write_into(file, {"beside": "| second |"})
    after = file.read_text(encoding="utf-8")
    assert "<!-- beside -->\n| second |\n<!-- /beside -->\n" in after
    begin, end = "<!-- beside -->", "<!-- /beside -->"
    assert after.split(begin)[0] == before.split(begin)[0]
    assert after.split(end)[1] == before.split(end)[1]


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("<!-- beside -->\n only")
    with pytest.raises(BenchError, match="markers"):
        report.write_into(file, {"beside": "tables"})
    assert file.read_text() == "<!-- beside -->\n only"


@pytest.mark.parametrize(("format_", "header"), [("authjs", "header"), ("nextauth", "header_4")])
def test_the_session_cookies_open_into_their_token(format_: str, header: str) -> None:
    """The header is 600 bytes long and holds what the sidecar's own reader finds."""
    login = cookies.log_in()
    cookie = getattr(login, header)
    told = explain([FORMATS[format_](secrets=[login.secret])], cookie, time.time())
    assert len(cookie) == 600
    assert told["result"] == "ok", told["why"]
    assert login.secret not in repr(login)
    assert login.token not in repr(login)
