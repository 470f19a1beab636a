"""The OpenTelemetry Collector as a program: built from its modules into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

VERSION: Final = "v0.165.0"
BUILDER: Final = f"go.opentelemetry.io/collector/cmd/builder@{VERSION}"
MANIFEST: Final = f"""
dist: {{name: collector, output_path: out, version: {VERSION.removeprefix("v")}}}
receivers: [{{gomod: go.opentelemetry.io/collector/receiver/otlpreceiver {VERSION}}}]
exporters: [{{gomod: go.opentelemetry.io/collector/exporter/debugexporter {VERSION}}}]
"""


class CannotBuild(Exception):
    """The Collector cannot be built; the text says why and what helps."""


def built() -> Path:
    """Where the program is once it is built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "session-sidecar" / f"otel-collector-{VERSION}" / "collector"


def build() -> Path:
    """Builds the program unless it is there, which takes some minutes. Raises `CannotBuild`."""
    file = built()
    if file.exists():
        return file
    go = shutil.which("go")
    if go is None:
        raise CannotBuild("go is not installed: it builds the Collector from the module proxy")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "manifest.yaml").write_text(MANIFEST)
        _run([go, "install", BUILDER], folder, {**os.environ, "GOBIN": name})
        _run([str(folder / "builder"), "--config", "manifest.yaml"], folder, os.environ)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "out" / "collector", file)
    return file


def _run(command: list[str], folder: Path, environ: os._Environ[str] | dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=dict(environ), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)} failed: {done.stderr[-500:]}")
