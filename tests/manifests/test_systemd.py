"""config/systemd is understood by systemd, gives the service few rights, and fits the sidecar."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from sidecar.cli import cli
from sidecar.core.config import Config, load
from tests.manifests.schemas import ROOT

FOLDER: Final = ROOT / "config" / "systemd"
PROGRAM: Final = "/opt/session-sidecar/bin/sidecar"
STATE: Final = "/var/lib/session-sidecar"
SECRET: Final = "a secret of the tests, 32 bytes or more"
LARGEST_EXPOSURE: Final = 20  # tenths, of 100; what may reach the network has some


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


SERVICE: Final = settings("session-sidecar.service")
SOCKET: Final = settings("session-sidecar.socket")
CREDENTIALS: Final = {one.partition(":")[0] for one in SERVICE["LoadCredential"]}


def text() -> str:
    return (FOLDER / "sidecar.yaml").read_text()


def config() -> Config:
    files = {f"/run/credentials/{name}": SECRET for name in CREDENTIALS}
    environ = {"CREDENTIALS_DIRECTORY": "/run/credentials"}
    return load(text(), source="sidecar.yaml", environ=environ, read_file=files.__getitem__)


def seconds(setting: str) -> int:
    found = re.fullmatch(r"(\d+)s", SERVICE[setting][-1])
    assert found is not None
    return int(found[1])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the units, which run a program that is there."""
    for file in FOLDER.glob("*.s*"):
        made = file.read_text().replace(PROGRAM, sys.executable)
        (tmp_path / file.name).write_text(made)
    return tmp_path


@pytest.fixture
def analyze(require_program: Callable[[str], str]) -> Callable[..., str]:
    """What systemd-analyze says; nothing if all is well."""
    program = require_program("systemd-analyze")

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [program, "--no-pager", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stderr + done.stdout * (done.returncode != 0)

    return run


VERIFY: Final = ("verify", "--man=no", "--recursive-errors=no")


def test_systemd_understands_the_units(analyze: Callable[..., str], installed: Path) -> None:
    """Every setting is known and has a value that it may have."""
    units = sorted(installed.glob("session-sidecar.*"))
    assert [unit.suffix for unit in units] == [".service", ".socket"]
    assert analyze(*VERIFY, *units) == ""


def test_systemd_sees_what_is_wrong(analyze: Callable[..., str], installed: Path) -> None:
    """The check above knows a setting that does not exist."""
    unit = installed / "session-sidecar.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    assert "NoNewPrivilege" in analyze(*VERIFY, unit)


def test_service_has_few_rights(analyze: Callable[..., str], installed: Path) -> None:
    """By systemd's own account of what could be taken away from a service."""
    judge = ("security", "--offline=true", f"--threshold={LARGEST_EXPOSURE}")
    unit = installed / "session-sidecar.service"
    assert analyze(*judge, unit) == ""
    unit.write_text(unit.read_text().replace("CapabilityBoundingSet=\n", ""))
    assert "Overall exposure level" in analyze(*judge, unit)


def test_configuration_passes_the_strict_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sidecar check --strict` has no error and no warning where the service runs."""
    for name in CREDENTIALS:
        (tmp_path / name).write_text(SECRET)
    for name in [name for name in os.environ if name.startswith("SIDECAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    file = tmp_path / "sidecar.yaml"
    file.write_text(text().replace(STATE, str(tmp_path)))
    got = CliRunner().invoke(cli, ["check", "--strict", "-c", str(file)])
    assert (got.exit_code, got.stderr) == (0, "")


def test_secrets_are_credentials() -> None:
    """The configuration reads exactly those that systemd hands over, and nothing from elsewhere."""
    read = set(re.findall(r"_file: \"?\$\{CREDENTIALS_DIRECTORY\}/([\w-]+)", text()))
    assert read == CREDENTIALS
    assert text().count("_file:") == len(CREDENTIALS)
    assert "Environment" not in " ".join(SERVICE)


def test_socket_is_where_the_configuration_listens() -> None:
    (listener,) = config().listeners
    assert SOCKET["ListenStream"] == [str(listener.address)]


def test_store_is_where_the_service_may_write() -> None:
    """The rest of the file system is read-only."""
    assert SERVICE["ProtectSystem"] == ["strict"]
    assert SERVICE["StateDirectory"] == [STATE.rpartition("/")[2]]
    assert f"sqlite://{STATE}/" in text()


def test_service_runs_what_is_configured() -> None:
    (command,) = SERVICE["ExecStart"]
    assert command.split() == [PROGRAM, "run", "-c", "/etc/session-sidecar/sidecar.yaml"]
    assert SERVICE["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_there_is_time_to_drain() -> None:
    """systemd kills later than the sidecar ends by itself."""
    assert SERVICE["KillSignal"] == ["SIGTERM"]
    assert seconds("TimeoutStopSec") >= config().drain.timeout + 5


def test_service_has_files_for_its_connections() -> None:
    """Each client connection takes another one to an upstream besides."""
    assert int(SERVICE["LimitNOFILE"][0]) > 2 * config().limits.connections
