"""The workflows run nothing that can change under them, and hold no credential.

`python -m tests.manifests` checks them with actionlint.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.manifests.schemas import ROOT, Node, documents

WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED: Final = re.compile(r"^[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
LOCAL: Final = re.compile(r"^\./\.github/workflows/[\w-]+\.yml$")
SECRET: Final = re.compile(r"\bsecrets\.|password: (?!\$\{\{ github\.token \}\}$)", re.MULTILINE)


def workflow(name: str) -> Node:
    (document,) = documents(ROOT / ".github" / "workflows" / name)
    return document


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_every_action_is_pinned(path: Path) -> None:
    """By the commit, with the version that it is beside it; one action is one commit everywhere."""
    used = re.findall(r"uses: (.+)$", path.read_text(), re.MULTILINE)
    assert used
    assert [one for one in used if not (PINNED.match(one) or LOCAL.match(one))] == []


def test_one_action_has_one_version() -> None:
    used = {
        one
        for path in WORKFLOWS
        for one in re.findall(r"uses: (.+@.+)$", path.read_text(), re.MULTILINE)
    }
    assert len(used) == len({one.partition("@")[0] for one in used})


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_workflows_may_only_read(path: Path) -> None:
    """A job that needs more says so itself; none leaves a token in the working copy."""
    document = workflow(path.name)
    assert document["permissions"] == {"contents": "read"}
    assert SECRET.findall(path.read_text()) == []
    for job in document["jobs"].values():
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_every_job_has_an_end(path: Path) -> None:
    jobs = workflow(path.name)["jobs"].values()
    assert [job for job in jobs if "steps" in job and "timeout-minutes" not in job] == []


def test_every_supported_python_is_tried() -> None:
    """Those of the classifiers, from the one that is required on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    tried = workflow("ci.yml")["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    assert tried == told
    assert project["requires-python"] == f">={tried[0]}"


def test_ci_runs_what_everybody_runs() -> None:
    steps = workflow("ci.yml")["jobs"]["everything"]["steps"]
    assert steps[-1]["run"] == "bash .ci/run"


def test_release_stands_on_ci() -> None:
    """Nothing is published before everything holds, and PyPI comes last: it forgets nothing."""
    jobs = workflow("release.yml")["jobs"]
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert jobs["distributions"]["needs"] == jobs["image"]["needs"] == "ci"
    assert set(jobs["pypi"]["needs"]) == {"distributions", "image"}


def test_release_pins_the_base_of_the_image() -> None:
    """The base that the Dockerfile names is replaced by itself, with the digest it has."""
    bases = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    (base,) = bases
    document = workflow("release.yml")
    assert document["env"]["BASE"] == f"docker.io/library/{base}"
    steps = document["jobs"]["image"]["steps"]
    (push,) = [one["with"] for one in steps if one.get("id") == "push"]
    assert push["build-contexts"].startswith(f"{base}=docker-image://")
    assert "steps.base.outputs.pinned" in push["build-contexts"]
    assert set(push["platforms"].split(",")) == {"linux/amd64", "linux/arm64"}
    arguments = {line.partition("=")[0] for line in push["build-args"].splitlines()}
    declared = re.findall(r"^ARG (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert arguments == set(re.findall(r"(\w+)=", "\n".join(declared)))


def test_every_lock_is_audited() -> None:
    """By a tool that is locked itself; a lock that is added is asked about without a change."""
    steps = [step.get("run", "") for step in workflow("ci.yml")["jobs"]["audit"]["steps"]]
    assert any("--require-hashes -r requirements-audit.lock" in step for step in steps)
    assert any("for lock in requirements*.lock" in step and "pip-audit" in step for step in steps)
