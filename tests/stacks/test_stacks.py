"""`sidecar init` and `sidecar completion`: files that work as they are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import cli
from sidecar.stacks import STACKS, configuration, next_steps

SECRETS = {
    "AUTH_SECRET": "an Auth.js secret of the tests, long enough",
    "SIDECAR_SECRET": "a secret of the tests, 32 bytes or more",
    "CLIENT_SECRET": "a client secret of the tests",
}


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_written_passes_the_check(
    stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a warning, once the secrets that its first step names are set."""
    file = tmp_path / "sidecar.yaml"
    written = CliRunner().invoke(cli, ["init", stack, "-o", str(file)])
    assert written.exit_code == 0, written.output
    assert file.read_text() == configuration(stack)
    assert written.stdout.splitlines()[1:] == next_steps(configuration(stack))
    for name, value in SECRETS.items():
        if name in configuration(stack):
            assert name in next_steps(configuration(stack))[0]
            monkeypatch.setenv(name, value)
    checked = CliRunner().invoke(cli, ["check", "-c", str(file), "--strict"])
    assert checked.exit_code == 0, checked.output


def test_command_offers_every_stack() -> None:
    assert set(cli.commands["init"].params[0].type.choices) == set(STACKS)  # type: ignore[attr-defined]


def test_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text("upstream: http://localhost:1\n")
    done = CliRunner().invoke(cli, ["init", "spa", "-o", str(file)])
    assert done.exit_code == 2
    assert done.stderr == f"{file}: must not exist; use -o to name another file\n"
    assert file.read_text() == "upstream: http://localhost:1\n"


def test_dash_prints_the_file_alone() -> None:
    assert CliRunner().invoke(cli, ["init", "nextjs", "-o", "-"]).stdout == configuration("nextjs")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_names_the_program(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_SIDECAR_COMPLETE" in done.stdout


def test_completion_knows_the_commands() -> None:
    """As the script asks for them."""
    asked = {"_SIDECAR_COMPLETE": "bash_complete", "COMP_WORDS": "sidecar ex", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from sidecar.cli import cli; cli(prog_name='sidecar')"],
        env=asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "plain,explain\n"
