"""The documents are true: commands exist, examples load, links and named files are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Group

from sidecar.cli import cli
from sidecar.core.claims import CLAIMS
from sidecar.core.config import load

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECRET = "s" * 32
NAMES = ("AUTH_SECRET", "CLIENT_SECRET", "IRON_PASSWORD", "SIDECAR_SECRET")
ENVIRON = dict.fromkeys(NAMES, SECRET)
HEADERS = (ROOT / "docs" / "headers.md").read_text(encoding="utf-8")
FRONTENDS = (ROOT / "docs" / "frontends.md").read_text(encoding="utf-8")
BEHAVIOUR = (ROOT / "docs" / "behaviour.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """The bodies of a document's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


CONFIGURATIONS = [
    (document.name, text)
    for document in DOCUMENTS
    for text in blocks("yaml", document.read_text(encoding="utf-8"))
]


def code_spans(text: str) -> Iterator[str]:
    """What stands between single backticks, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return (match[1] for match in re.finditer(r"`([^`\n]+)`", prose))


def mentioned_commands(text: str) -> Iterator[str]:
    """Every `sidecar …` of a document, as the words after the program's name."""
    shell = (part for block in blocks("sh", text) for part in re.split(r"&&|\n", block))
    for span in (*code_spans(text), *shell):
        match = re.fullmatch(r"(?:\S*/)?sidecar ([a-z].*?)(?: [<>].*)?", span.strip())
        if match:
            yield match[1]


def anchors(document: Path) -> set[str]:
    """What links to a heading of the document end in."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("index", [0, 1])
def test_set_up_is_one_command_each(index: int) -> None:
    """A reader copies one line, and so does CI."""
    command = blocks("sh")[index]
    assert command.count("\n") == 1
    assert not set(";|&\\#") & set(command.replace("&&", ""))


def test_first_command_shows_and_second_one_tests() -> None:
    """In that order: CI runs the second one."""
    steps = [block.strip().rsplit(" && ", 1)[1] for block in blocks("sh")[:2]]
    assert steps == [".venv/bin/sidecar demo", ".venv/bin/pytest -q -n auto"]


def test_set_up_installs_nothing_unpinned() -> None:
    """Libraries come from a lock with hashes, and the package itself brings none along."""
    for block in blocks("sh")[:2]:
        installs = [step for step in block.split(" && ") if " install " in step]
        assert len(installs) == 2
        assert "--require-hashes -r requirements" in installs[0]
        assert "--no-deps" in installs[1]


def test_every_command_is_in_the_table() -> None:
    """Of the page on behaviour."""
    assert {words.split()[0] for words in mentioned_commands(BEHAVIOUR)} == set(cli.commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_mentioned_exists(document: Path) -> None:
    for words in mentioned_commands(document.read_text(encoding="utf-8")):
        command, *rest = words.split()
        assert command in cli.commands, words
        if command == "idp":
            continue  # its options are those of another command line
        meant = cli.commands[command]
        if isinstance(meant, Group):
            assert rest[0] in meant.commands, words
            meant = meant.commands[rest[0]]
        known = {name for option in meant.params for name in option.opts}
        assert set(re.findall(r"(?<!\S)\[?(-{1,2}[a-z]+)", " ".join(rest))) <= known, words


@pytest.mark.parametrize(("document", "text"), CONFIGURATIONS)
def test_every_configuration_loads_without_a_warning(document: str, text: str) -> None:
    config = load(text, source=document, environ=ENVIRON, read_file=lambda _: SECRET)
    assert config.warnings == ()


def test_there_are_configurations() -> None:
    """The parametrized test above would pass on none."""
    assert {document for document, _ in CONFIGURATIONS} >= {
        *("README.md", "configuration.md", "sources.md", "logout.md", "refresh.md", "login.md"),
        *("frontends.md", "headers.md", "providers.md"),
    }


def test_the_readme_is_short() -> None:
    """What is more than a first look stands on a page of its own."""
    assert README.count("\n") <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """To a file of the project, and to a heading of that page."""
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        page = document.parent / path if path else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_table_of_cases_names_tests_that_exist() -> None:
    """Each of the 18 cases, by the names of the tests that hold it."""
    tests = (ROOT / "tests" / "e2e" / "test_cases.py").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9]+) \|.*\| (.*) \|$", FRONTENDS, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 19))
    for number, cell in rows:
        names = re.findall(r"`(…?\w+)`", cell)
        assert names
        for name in names:
            start = f"test_case_{int(number):02}" if name.startswith("…") else f"test_{name}("
            assert start in tests
            assert name.lstrip("…_") in tests
            assert name.startswith(("…", f"case_{int(number):02}_")), name


def test_every_field_that_only_a_proxy_may_say_is_documented() -> None:
    """In the groups and the order of the table that the sidecar goes by."""
    rows = re.findall(r"^\| ([^|]+) \| (`.*`) \|$", HEADERS, re.MULTILINE)
    assert {group: cell.replace("`", "") for group, cell in rows} == dict(CLAIMS)


def test_architecture_names_files_that_exist() -> None:
    """Beside those of the product, which `tests/test_docs.py` looks at."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:sidecar|tests|config|docs)/[\w./-]*)`", text))
    assert len(named) > 3
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
