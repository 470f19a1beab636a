"""Traces arrive at a real OTLP receiver. Left out unless the Collector has been built before."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.collector.program import VERSION, built
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Start, Upstream

PATIENCE = 30.0
CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"""


@pytest.fixture
async def collector(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The endpoint of a Collector that serves, and the file where it says what it gets."""
    if not built().exists():
        pytest.skip(f"the Collector {VERSION} is not built; python -m tests.collector builds it")
    port = free_port()
    config, said = tmp_path / "collector.yaml", tmp_path / "collector.log"
    config.write_text(CONFIG.format(port=port))
    with said.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            built(), "--config", config, stdout=out, stderr=out
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while "Everything is ready" not in said.read_text():
                assert process.returncode is None, said.read_text()
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}", said
    finally:
        process.terminate()
        await process.wait()


async def test_collector_gets_the_spans_of_a_request(
    collector: tuple[str, Path],
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both in one trace, with the attributes that its conventions name."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    endpoint, said = collector
    at = await sidecar({"upstream": upstream.url, "tracing": {"endpoint": endpoint}})
    assert (await (await client(at)).get("/orders?canary=1")).status == 200
    async with asyncio.timeout(PATIENCE):
        while not {"GET /", "upstream api"} <= set(names(said)):
            await asyncio.sleep(0.05)
    text = said.read_text()
    assert "canary" not in text
    assert "service.name: Str(session-sidecar)" in text
    assert "url.path: Str(/orders)" in text
    assert len(set(re.findall(r"Trace ID\s+: (\w+)", text))) == 1
    (sent,) = upstream.last.all("traceparent")
    assert sent.split("-")[2] in re.findall(r"\bID\s+: (\w{16})\b", text)


def names(said: Path) -> list[str]:
    """Of the spans that the Collector has told so far."""
    return re.findall(r"Name\s+: (.+)", said.read_text())
