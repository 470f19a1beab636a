"""Imports point down and the core is pure: the architecture, held by its syntax trees."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
FILES: Final = sorted((ROOT / "sidecar").rglob("*.py"))

# From the bottom up, by the longest prefix that matches. A module imports from its own layer and
# from those above it in this list.
LAYERS: Final = (
    ("sidecar.__init__", "sidecar.core.errors", "sidecar.core.memo", "sidecar.core.record"),
    (
        "sidecar.core.access",
        "sidecar.core.attributes",
        "sidecar.core.claims",
        "sidecar.core.config",
        "sidecar.core.cookie_date",
        "sidecar.core.cookies",
        "sidecar.core.envelope_members",
        "sidecar.core.headers",
        "sidecar.core.identity",
        "sidecar.core.jwe",
        "sidecar.core.jws",
        "sidecar.core.keys",
        "sidecar.core.json_text",
        "sidecar.core.jsonscan",
        "sidecar.core.jsonwalk",
        "sidecar.core.path_table",
        "sidecar.core.store_url",
        "sidecar.core.target",
        "sidecar.core.tickets",
        "sidecar.core.token_set",
        "sidecar.core.upstream_url",
        "sidecar.core.websocket",
    ),
    ("sidecar.core.client", "sidecar.core.credential"),
    ("sidecar.core.request",),
    ("sidecar.core.envelope", "sidecar.core.formats", "sidecar.core.csrf"),
    ("sidecar.core.logout_rule", "sidecar.core.route_table"),
    ("sidecar.core",),
    (
        "sidecar.compilation",
        "sidecar.policy",
        "sidecar.descriptor_signals",
        "sidecar.page_files",
        "sidecar.places",
        "sidecar.tls",
        "sidecar.tls_failure",
        "sidecar.inotify",
        "sidecar.file_watch",
        "sidecar.log_level",
    ),
    (
        "sidecar.net",
        "sidecar.metrics",
        "sidecar.access_log",
        "sidecar.log",
        "sidecar.log_console",
        "sidecar.log_writer",
        "sidecar.observation",
        "sidecar.explain",
        "sidecar.spans",
        "sidecar.strays",
        "sidecar.tracing",
    ),
    ("sidecar.sessions",),
    ("sidecar.runtime", "sidecar.assembly"),
    ("sidecar.reload",),
    ("sidecar.web",),
    (
        "sidecar.app",
        "sidecar.allocator",
        "sidecar.handover",
        "sidecar.inheritance",
        "sidecar.lifecycle",
        "sidecar.reload_on_change",
        "sidecar.service_manager",
    ),
    ("sidecar",),
)

# What reads a clock, an environment, a file or a socket, or logs (architecture, habit 1).
IMPURE: Final = {
    *("aiohttp", "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os"),
    *("pathlib", "random", "secrets", "select", "shutil", "signal", "socket", "ssl", "structlog"),
    *("subprocess", "sys", "tempfile", "threading", "time", "uvloop"),
}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES: Final = {name_of(file): ast.parse(file.read_text()) for file in FILES}


def imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports, in functions and for the type checker too.

    `from package import module` is the module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, "relative imports hide where they point"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def own_imports(name: str) -> set[str]:
    return {one for one in imports(MODULES[name]) if one in MODULES} - {name, "sidecar"}


def layer(name: str) -> int:
    """The position of the longest prefix that matches."""
    matches = [
        (len(prefix), position)
        for position, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if name == prefix or name.startswith(prefix + ".")
    ]
    return max(matches)[1]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    """errors → config, headers, cookies … → forwarding → policy → net → runtime → web → app."""
    upwards = {one for one in own_imports(name) if layer(one) > layer(name)}
    assert not upwards


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("sidecar.core")])
def test_the_core_is_pure(name: str) -> None:
    """No await, aiohttp, clock, environment, logging or files; so its tests need none either."""
    found = {one.split(".")[0] for one in imports(MODULES[name])}
    assert not found & IMPURE
    nodes = list(ast.walk(MODULES[name]))
    assert not [node for node in nodes if isinstance(node, ast.Await | ast.AsyncFunctionDef)]
    called = {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


def test_no_imports_go_in_circles() -> None:
    """Not even between modules of one layer, nor through a package's `__init__`."""
    graph = {name: own_imports(name) for name in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def test_the_modules_are_found() -> None:
    """An empty table would pass every test above."""
    assert {"sidecar.core.errors", "sidecar.sessions.directory", "sidecar.web.proxy"} <= set(
        MODULES
    )
    assert own_imports("sidecar.web.proxy") > {"sidecar.core.actions", "sidecar.web.relay"}
    assert "asyncio" in set(imports(MODULES["sidecar.net.deadline"]))
    assert (
        layer("sidecar.core.formats.encrypted_jwt")
        < layer("sidecar.core.forwarding")
        < layer("sidecar")
    )


def test_no_name_stands_twice() -> None:
    """A class and a file are known by their names, wherever they are read of."""
    classes = [
        node.name
        for tree in MODULES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(classes).items() if count > 1] == []
    files = [file.name for file in FILES if not file.name.startswith("__")]
    assert [name for name, count in Counter(files).items() if count > 1] == []
