"""Load by wrk, and what it tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.children import child
from tests.bench.contenders import program
from tests.bench.faults import BenchError
from tests.bench.samples import Ask
from tests.bench.servers import Server

# `done` alone costs nothing while the load runs, as a `response` that checks each status would.
_SCRIPT: Final = """
wrk.method, wrk.body = "%s", %s
%s
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %%d, "bytes": %%.0f, "microseconds": %%.0f, "p50": %%.0f, "p99": %%.0f, ' ..
    '"connect": %%d, "read": %%d, "write": %%d, "status": %%d, "timeout": %%d}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""

ERRORS: Final = ("connect", "read", "write", "timeout", "status")


@dataclass(frozen=True, slots=True)
class Told:
    """What one run of wrk saw; latencies are in microseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float


def run(
    server: Server, ask: Ask, *, connections: int, seconds: int, home: Path, lua: str = ""
) -> Mapping[str, float]:
    """Runs wrk, on one thread, and returns what its script tells. Raises `BenchError`.

    `lua` may define wrk's `request`.
    """
    script = home / "load.lua"
    script.write_text(_SCRIPT % (ask.method, f"[==[{ask.body}]==]" if ask.body else "nil", lua))
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    fields = {"Cookie": server.session.header, **ask.fields}
    headers = [part for name, value in fields.items() for part in ("-H", f"{name}: {value}")]
    with child(
        [program("wrk"), *options, *headers, server.url(ask.path)], subprocess.PIPE
    ) as process:
        output, errors = process.communicate(timeout=seconds + 60)
    if process.returncode:
        raise BenchError(f"wrk failed: {errors.decode(errors='replace').strip()}")
    told: dict[str, float] = json.loads(output.splitlines()[-1])
    return told


def judge(name: str, told: Mapping[str, float], ask: Ask, answer_bytes: int) -> Told:
    """What wrk told, if every answer was as the sample of `answer_bytes`.

    wrk counts statuses above 399 as errors, but takes a redirect for an answer like any other; it
    cannot be as long, though. Raises `BenchError`.
    """
    requests = int(told["requests"])
    if not requests:
        raise BenchError(f"{name} did not answer under load")
    due = dict.fromkeys(ERRORS, 0) | {"status": requests if ask.status > 399 else 0}
    wrong = [f"{told[error]:.0f} {error}" for error in ERRORS if told[error] != due[error]]
    if wrong:
        raise BenchError(f"{name} failed under load: {', '.join(wrong)} errors")
    if told["bytes"] < requests * answer_bytes:
        raise BenchError(f"{name} answers under load with less than its sample")
    return Told(requests, requests / told["microseconds"] * 1e6, told["p50"], told["p99"])
