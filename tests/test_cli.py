"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar import __version__, frontend
from sidecar.cli import cli
from sidecar.core.config import schema

Sidecar = Callable[..., Result]


@pytest.fixture
def sidecar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sidecar:
    """`sidecar(*arguments, NAME="value")` runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sidecar.cli.DEFAULT_FILES", ("sidecar.yaml",))

    def run(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(cli, arguments, env=environ)

    return run


def test_version(sidecar: Sidecar) -> None:
    result = sidecar("--version")
    assert (result.exit_code, result.output) == (0, f"sidecar {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["check", "--nonsense"], ["run", "x"], ["keygen", "-c"]]
)
def test_wrong_usage_exits_2(sidecar: Sidecar, arguments: list[str]) -> None:
    result = sidecar(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_keygen_prints_32_fresh_bytes(sidecar: Sidecar) -> None:
    """In base64url; and the sidecar takes it as its secret."""
    keys = [sidecar("keygen").stdout.strip() for _ in range(2)]
    assert len(set(keys)) == 2
    assert [len(base64.urlsafe_b64decode(key + "=")) for key in keys] == [32, 32]
    result = sidecar("check", SIDECAR_UPSTREAM="http://a", SIDECAR_SECRET=keys[0])
    assert (result.exit_code, result.stderr) == (0, "")


def test_schema_prints_json(sidecar: Sidecar) -> None:
    result = sidecar("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema()


def test_typescript_prints_the_file_as_it_is(sidecar: Sidecar) -> None:
    """Byte for byte, so that it can be piped to where it belongs; it names its version."""
    result = sidecar("typescript")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == Path(frontend.__file__).with_name("sidecar.ts").read_bytes()
    assert f"session-sidecar {__version__}." in result.stdout.splitlines()[0]


def test_check_says_what_the_configuration_amounts_to(sidecar: Sidecar, tmp_path: Path) -> None:
    """Warnings go to standard error and leave the exit code alone."""
    (tmp_path / "x.yaml").write_text(
        "upstreams: {api: {url: http://a}}\n"
        "routes:\n"
        "- {path: /, kind: page, upstream: api}\n"
        "- {path: /api/, kind: api, upstream: api}\n"
    )
    result = sidecar("check", "-c", "x.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ok",
        "listen   0.0.0.0:8080 (http)",
        "admin    127.0.0.1:9090",
        "logout   /api/logout -> /login",
        "sources  none",
        "PATH   KIND  SESSION   INJECT  COOKIES  ENVELOPE  ON 401  UPSTREAM",
        "/api/  api   required  yes     strip    yes       logout  api (http://a)",
        "/      page  optional  no      forward  no        pass    api (http://a)",
    ]
    warned = [line.split(": ")[:2] for line in result.stderr.splitlines()]
    assert warned == [["warning", "secret"], *[["warning", "session.sources"]] * 2]


def test_check_tells_every_fault_and_exits_2(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("upstream: ftp://a\nlog: {level: x}\n")
    result = sidecar("check", "-c", "x.yaml", SIDECAR_LISTEN="x")
    assert (result.exit_code, result.stdout) == (2, "")
    starts = ["x.yaml:1: upstream: ", "x.yaml:2: log.level: ", "SIDECAR_LISTEN: listen: "]
    assert all(
        line.startswith(start)
        for line, start in zip(result.stderr.splitlines(), starts, strict=True)
    )


def test_check_takes_a_secret_from_a_file(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short\n")
    result = sidecar("check", SIDECAR_UPSTREAM="http://a", SIDECAR_SECRET_FILE="key")
    assert result.exit_code == 2
    assert "must have at least 32 bytes" in result.stderr
    assert "short" not in result.stderr


@pytest.mark.parametrize("command", ["check", "run", "explain"])
def test_unreadable_file_exits_2(sidecar: Sidecar, tmp_path: Path, command: str) -> None:
    """Missing, a folder, or no text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", str(tmp_path), "binary"):
        result = sidecar(command, "-c", name)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"{name}: ")


def test_no_configuration_at_all_exits_2(sidecar: Sidecar) -> None:
    result = sidecar("check")
    assert result.exit_code == 2
    assert result.stderr.startswith("no configuration file: upstream: missing")


def test_file_is_found_where_it_usually_is(sidecar: Sidecar, tmp_path: Path) -> None:
    """-c, then SIDECAR_CONFIG, then sidecar.yaml here."""
    for name in ("sidecar", "named", "option"):
        (tmp_path / f"{name}.yaml").write_text(f"upstream: http://{name}")
    assert "(http://sidecar)" in sidecar("check").stdout
    assert "(http://named)" in sidecar("check", SIDECAR_CONFIG="named.yaml").stdout
    both = sidecar("check", "-c", "option.yaml", SIDECAR_CONFIG="named.yaml")
    assert "(http://option)" in both.stdout
