"""What the pages show is real: commands parse and run, files load, other programs take theirs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from sidecar.cli import cli
from sidecar.core.config import Config, load, schema

if TYPE_CHECKING:
    from tests.conftest import Clients, Start, Upstream

Node = dict[str, Any]

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGES: Final = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
SECRETS: Final = dict.fromkeys(("AUTH_SECRET", "CLIENT_SECRET", "SIDECAR_SECRET"), "s" * 32)
SEPARATORS: Final = {"&&", "||", "|", ";", "(", ")"}
REDIRECTIONS: Final = {">", ">>", "<"}
HARMLESS: Final = {"check", "completion", "init", "keygen", "schema", "typescript"}
"""Commands that end by themselves, and need nothing that runs."""
SCHEMA: Final = schema()


def blocks(language: str, page: str) -> list[str]:
    """The bodies of a page's fenced blocks of one language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return [str(one) for one in found]


def command_lines(page: str) -> Iterator[list[str]]:
    """What the page's shell blocks give to `sidecar`, in order, without redirections."""
    for block in blocks("sh", page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            for is_end, group in groupby(words, SEPARATORS.__contains__):
                step = list(group)
                if is_end or step[0].rsplit("/", 1)[-1] != "sidecar":
                    continue
                cut = [n for n, word in enumerate(step) if word in REDIRECTIONS]
                yield step[1 : cut[0] if cut else None]


def parse(words: list[str]) -> None:
    """Has the real command line read its arguments, without a command being run."""
    context: click.Context = click.Context(cli, info_name="sidecar")
    command: click.Command | None = cli
    rest = words
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None
        if not isinstance(command, click.Group):
            command.make_context(name, rest, parent=context)


def configuration(text: str) -> Config:
    return load(text, source="page", environ=SECRETS, read_file=lambda _: "s" * 32)


LINES: Final = [(page, shlex.join(words)) for page in PAGES for words in command_lines(page)]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_parses(page: str, line: str) -> None:
    parse(shlex.split(line))


def test_there_are_commands() -> None:
    """The test above would pass on none, and on a parser that takes everything."""
    assert len(LINES) > 15
    for wrong in (["check", "--nonsense"], ["init", "cobol"], ["sessions", "stop"]):
        with pytest.raises(click.UsageError):
            parse(wrong)


@pytest.mark.parametrize("stack", ["nextjs", "spa"])
def test_first_hour_can_be_followed(
    stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands run in their order, and the file that they write is the one on the page."""
    page = f"first-hour-{stack}.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sidecar.cli.DEFAULT_FILES", ("sidecar.yaml",))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    ran = []
    for words in command_lines(page):
        if words[0] in HARMLESS and "--probe" not in words:
            done = CliRunner().invoke(cli, words)
            assert done.exit_code == 0, done.output
            ran.append(words[0])
    assert ran[0] == "init"
    (shown,) = blocks("yaml", page)
    assert configuration(shown) == configuration((tmp_path / "sidecar.yaml").read_text())


async def test_first_hour_of_an_api_gets_what_the_page_says(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """401 `session_required` without a cookie; the token with one; each route as it is told."""
    bare = await client(await sidecar(upstream=upstream.url))
    assert (await bare.get("/me")).status == 200
    assert (await bare.get("/me", "Cookie: access_token=TOKEN")).status == 200
    sent = [one.get("Authorization") for one in upstream.requests]
    assert sent == [None, "Bearer TOKEN"]
    upstream.requests.clear()
    (text,) = blocks("yaml", "first-hour-api.md")
    given: Node = YAML(typ="safe", pure=True).load(text)
    given["upstreams"]["api"]["url"] = upstream.url
    given["secret"] = SECRETS["SIDECAR_SECRET"]
    wire = await client(await sidecar(given))
    refused = await wire.get("/me")
    assert (refused.status, refused.code) == (401, "session_required")
    assert upstream.requests == []
    assert (await wire.get("/me", "Cookie: access_token=TOKEN")).status == 200
    assert (await wire.get("/public/news")).status == 200
    assert (await wire.get("/mobile/me", "Authorization: Bearer own")).status == 200
    assert [(one.target, one.get("Authorization")) for one in upstream.requests] == [
        ("/me", "Bearer TOKEN"),
        ("/public/news", None),
        ("/mobile/me", "Bearer own"),
    ]


@pytest.mark.parametrize("page", [name for name in PAGES if blocks("nginx", name)])
def test_nginx_takes_its_blocks(
    page: str, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    """Those that are locations within a server."""
    for block in blocks("nginx", page):
        server = f"server {{ {block} }}" if block.startswith("location") else block
        files = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off; {files}\n{server} }}"
        text = text.replace("server {", "server { listen 127.0.0.1:8080;")
        (tmp_path / "nginx.conf").write_text(text)
        errors, file = str(tmp_path / "errors"), str(tmp_path / "nginx.conf")
        command = [require_program("nginx"), "-t", "-e", errors, "-p", str(tmp_path), "-c", file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [name for name in PAGES if blocks("caddyfile", name)])
def test_caddy_takes_its_blocks(
    page: str, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    for block in blocks("caddyfile", page):
        file = tmp_path / "Caddyfile"
        file.write_text(block)
        program = require_program("caddy")
        done = subprocess.run(
            [program, "validate", "--adapter", "caddyfile", "--config", str(file)],
            capture_output=True,
            text=True,
            check=False,
            env={"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr


def test_proxies_in_front_are_nginx_and_caddy() -> None:
    """The two tests above would pass on a page without blocks."""
    assert len(blocks("nginx", "in-front.md")) == len(blocks("caddyfile", "in-front.md")) == 1


def test_every_yaml_of_other_programs_is_yaml() -> None:
    texts = [text for page in PAGES for text in blocks("yml", page)]
    assert len(texts) > 3
    assert all(list(YAML(typ="safe", pure=True).load_all(text)) for text in texts)


def takes(section: Node, key: str) -> Node | None:
    """The schema of a key of a section, which may be a mapping or null."""
    node = section.get("properties", {}).get(key)
    if node is None:
        return None
    for choice in (node, *node.get("anyOf", ())):
        if "$ref" in choice:
            found: Node = SCHEMA["$defs"][choice["$ref"].rpartition("/")[2]]
            return found
    return dict(node)


def is_key(written: str) -> bool:
    """Whether the file, or a route, has the key; dots go deeper."""
    for top in (SCHEMA, SCHEMA["$defs"]["RouteSection"]):
        section: Node | None = top
        for part in written.split("."):
            section = takes(section, part) if section is not None else None
        if section is not None:
            return True
    return False


def test_migration_names_keys_that_exist() -> None:
    """Everything in the right column that is written like a key."""
    cells = re.findall(r"^\| `?-*.+ \| (.+) \|$", PAGES["migration.md"], re.MULTILINE)
    spans = [span for cell in cells for span in re.findall(r"`([a-z_.]+)(?:: [\w-]+)?`", cell)]
    keys = [span for span in spans if span not in {"api", "claim"}]
    assert len(keys) > 20
    assert [key for key in keys if not is_key(key)] == []
    assert not is_key("oidc.nonsense")
