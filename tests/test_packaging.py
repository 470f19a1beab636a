"""What is shipped fits together: versions, locks, image, licence."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from sidecar import __version__
from sidecar.core.config import load

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
DEVELOPMENT: list[str] = PROJECT["dependency-groups"]["dev"]
OTEL: list[str] = PROJECT["project"]["optional-dependencies"]["otel"]
ISAL: list[str] = PROJECT["project"]["optional-dependencies"]["isal"]
BUILD: list[str] = PROJECT["dependency-groups"]["build"]
FUZZING: list[str] = PROJECT["dependency-groups"]["fuzz"]
AUDIT: list[str] = PROJECT["dependency-groups"]["audit"]
SITE: list[str] = PROJECT["dependency-groups"]["docs"]
SECRET = "s" * 32


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def locked(path: str) -> dict[str, str]:
    """Name → version of a lock file's pins."""
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", read(path), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name.upper(), rest) for name, rest in pairs]


def last(instruction: str) -> str:
    return [rest for name, rest in instructions() if name == instruction][-1]


def test_versions_agree() -> None:
    """Package, image and change log."""
    assert f'image.version="{__version__}"' in last("LABEL")
    assert re.search(rf"^## \[{re.escape(__version__)}\]", read("CHANGELOG.md"), re.MULTILINE)


def test_licence_is_the_one_announced() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    text = read("LICENSE")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    ("path", "requirements"),
    [
        ("requirements.lock", RUNTIME),
        ("requirements-isal.lock", RUNTIME + ISAL),
        ("requirements-otel.lock", RUNTIME + OTEL),
        ("requirements-dev.lock", RUNTIME + OTEL + ISAL + DEVELOPMENT),
        ("requirements-build.lock", BUILD),
        ("requirements-docs.lock", SITE),
        ("requirements-audit.lock", AUDIT),
        ("requirements-fuzz.lock", FUZZING),
    ],
)
def test_lock_satisfies_every_dependency(path: str, requirements: list[str]) -> None:
    """One that changes in pyproject.toml must be locked again."""
    pins = locked(path)
    for requirement in map(Requirement, requirements):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in {path}"
        assert pin in requirement.specifier, f"{path} pins {requirement.name} {pin}"


def test_development_runs_on_what_is_shipped() -> None:
    for path in ("requirements-isal.lock", "requirements-otel.lock", "requirements-dev.lock"):
        assert locked("requirements.lock").items() <= locked(path).items()


@pytest.mark.parametrize(
    "path",
    [
        "requirements.lock",
        "requirements-isal.lock",
        "requirements-otel.lock",
        "requirements-dev.lock",
        "requirements-build.lock",
        "requirements-docs.lock",
        "requirements-audit.lock",
        "requirements-fuzz.lock",
    ],
)
def test_every_pin_has_a_hash_and_no_place(path: str) -> None:
    """So that a lock holds wherever the packages come from."""
    text = read(path)
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert pins
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links)", text, re.MULTILINE
    )


@pytest.mark.parametrize("requirement", RUNTIME + OTEL + ISAL + DEVELOPMENT + BUILD + SITE + AUDIT)
def test_every_dependency_has_its_reason(requirement: str) -> None:
    row = rf"(?m)^\| ([\w-]+, )*{re.escape(Requirement(requirement).name)}(, [\w-]+)* \|"
    assert re.search(row, read("docs/dependencies.md"))


def test_lowest_versions_are_those_of_the_page() -> None:
    """Each with its reason."""
    section = read("docs/dependencies.md").partition("## Lowest versions")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE)
    assert {requirement for requirement, _ in rows} == set(RUNTIME)
    assert all(reason.strip() for _, reason in rows)


INSTALLERS = [".ci/run", ".github/workflows/ci.yml", ".github/workflows/release.yml", "Dockerfile"]


@pytest.mark.parametrize("path", [*INSTALLERS, "README.md", "CONTRIBUTING.md"])
def test_nothing_is_installed_that_has_no_hash(path: str) -> None:
    """By pip: from a lock, or the package itself and nothing else; by npm: from a lock."""
    text = read(path).replace("\\\n", " ")
    installs = re.findall(r"pip (?:--python \S+ )?install[^&\n]*", text)
    assert installs or path.endswith("release.yml")
    known = ("--require-hashes", "--no-deps")
    assert [one for one in installs if not any(flag in one for flag in known)] == []
    assert not re.search(r"npm (i|install|add)\b", text)


LOCKS_OF_NPM = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tests").rglob("package-lock.json")
    if "node_modules" not in path.parts
)


@pytest.mark.parametrize("path", LOCKS_OF_NPM)
def test_every_package_of_npm_has_a_hash_and_no_place(path: str) -> None:
    packages = json.loads(read(path))["packages"]
    del packages[""]
    assert packages
    bare = [name for name, one in packages.items() if not one.get("integrity")]
    weak = [name for name, one in packages.items() if not one["integrity"].startswith("sha512-")]
    assert (bare, weak) == ([], [])
    assert [name for name, one in packages.items() if "resolved" in one] == []


def test_image_runs_without_root() -> None:
    """By number: Kubernetes cannot tell that a name is not root's."""
    user, _, group = last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_image_bakes_no_secret_in() -> None:
    names = {
        match[1]
        for instruction, rest in instructions()
        if instruction in {"ARG", "ENV"}
        for match in re.finditer(r"(?:^|\s)([A-Za-z_][A-Za-z0-9_]*)(?==|\s|$)", rest)
    }
    assert names
    assert [n for n in names if re.search("(?i)secret|token|passw|key|credential", n)] == []


def test_image_installs_only_what_is_locked() -> None:
    """The libraries, the tools of the build, and then the package without any more."""
    installs = [rest for name, rest in instructions() if name == "RUN" and " install " in rest]
    assert len(installs) == 4
    assert "--require-hashes -r requirements.lock" in installs[0]
    assert "--require-hashes -r requirements-build.lock" in installs[1]
    assert '--require-hashes -r "requirements-$EXTRA.lock"' in installs[2]
    assert "--no-deps" in installs[3]


def test_image_lists_what_is_in_it() -> None:
    """As CycloneDX, made behind the last installation, and from the environment that is shipped."""
    names = [rest for name, rest in instructions() if name == "RUN"]
    (sbom,) = [rest for rest in names if "cyclonedx-py" in rest]
    assert names.index(sbom) > max(names.index(rest) for rest in names if " install " in rest)
    assert sbom.split()[-1] == "/opt/sidecar/bin/python"
    path = re.search(r"-o (\S+)", sbom)
    assert path is not None
    assert path[1] in read("docs/deployment.md")
    assert any(
        name == "COPY" and rest.split()[1:] == ["/opt/sidecar"] * 2 for name, rest in instructions()
    )


def test_image_says_where_it_comes_from() -> None:
    """By the labels of the OCI; both stages have the base that they name."""
    label = last("LABEL")
    for name in ("title", "description", "version", "licenses", "source", "revision"):
        assert f"org.opencontainers.image.{name}=" in label
    bases = {rest.split()[0] for name, rest in instructions() if name == "FROM"}
    assert len(bases) == 1
    assert f'image.base.name="docker.io/library/{bases.pop()}"' in label
    assert 'image.base.digest="$BASE_DIGEST"' in label


def test_image_asks_the_admin_listener_where_it_is() -> None:
    """The health check, the shipped configuration and the signal fit the program."""
    config = load(
        read("config/sidecar.yaml"),
        source="config/sidecar.yaml",
        environ={},
        read_file=lambda _: SECRET,
    )
    assert config.admin is not None
    command = json.loads(last("HEALTHCHECK").split("CMD", 1)[1])
    assert command == ["sidecar", "health", "--admin", str(config.admin)]
    assert last("EXPOSE") == str(config.listeners[0].address.port)
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["sidecar"]


def test_build_context_holds_what_the_image_copies() -> None:
    """`.dockerignore` lets nothing else through."""
    allowed = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


def test_compose_and_image_check_health_alike() -> None:
    compose = YAML(typ="safe", pure=True).load(read("config/compose.yaml"))
    command = json.loads(last("HEALTHCHECK").split("CMD", 1)[1])
    assert compose["services"]["sidecar"]["healthcheck"]["test"] == ["CMD", *command]


def test_ci_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
