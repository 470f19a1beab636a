"""Load by wrk, and what it tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from children import child
from faults import BenchError

# `done` alone costs nothing while the load runs, as a `response` that checks each status would.
_SCRIPT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "bytes": %.0f, "microseconds": %.0f, "p50": %.0f, "p99": %.0f, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""

ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw; latencies are in microseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float


def run(
    program: str, url: str, cookie: str, *, connections: int, seconds: int, home: Path
) -> Mapping[str, float]:
    """Runs wrk, on one thread, and returns what its script tells. Raises `BenchError`."""
    script = home / "done.lua"
    script.write_text(_SCRIPT)
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    command = [program, *options, "-H", f"Cookie: {cookie}", url]
    with child(command, subprocess.PIPE) as process:
        output, errors = process.communicate(timeout=seconds + 30)
    if process.returncode:
        raise BenchError(f"wrk failed: {errors.decode(errors='replace').strip()}")
    told: dict[str, float] = json.loads(output.splitlines()[-1])
    return told


def judge(name: str, told: Mapping[str, float], answer_bytes: int) -> Load:
    """What wrk told, if every answer was as long as the sample of `answer_bytes`.

    wrk counts statuses above 399 as errors, but takes a redirect for an answer like any other; it
    cannot be as long, though. Raises `BenchError`.
    """
    wrong = [f"{told[error]:.0f} {error}" for error in ERRORS if told[error]]
    if wrong:
        raise BenchError(f"{name} failed under load: {', '.join(wrong)} errors")
    requests = int(told["requests"])
    if not requests:
        raise BenchError(f"{name} did not answer under load")
    if told["bytes"] < requests * answer_bytes:
        raise BenchError(f"{name} answers under load with less than its sample of 200")
    return Load(requests, requests / told["microseconds"] * 1e6, told["p50"], told["p99"])
