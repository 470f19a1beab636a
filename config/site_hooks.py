"""Makes the site of docs/ stand alone (hooks of MkDocs, see mkdocs.yml).

The pages are written to be read in the repository too. So some links leave docs/, and some pages
stand outside of it: those become pages of the site. Other links lead to `repo_url`, or are text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ADOPTED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CHANGELOG.md": "changes.md",
}
ORIGIN = {uri: name for name, uri in ADOPTED.items()}
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Gives headings the anchors that they have in the repository."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = _anchor
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that stand at the top of the repository."""
    for name, uri in ADOPTED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Returns the page with every link leading to the site, to `repo_url`, or nowhere."""
    uri = page.file.src_uri
    folder = "" if uri in ORIGIN else "docs"

    def replaced(match: re.Match[str]) -> str:
        return _link(match[1], match[2], folder, config.repo_url)

    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def on_page_content(html: str, **_: Any) -> str:
    """Returns the HTML without the backslash that `|` needs in the code of a table's cell."""
    return CELL.sub(lambda match: match[0].replace("\\|", "|"), html)


def _link(text: str, target: str, folder: str, repo_url: str | None) -> str:
    """One link of a page in the repository's `folder`, as it stands on the site."""
    path, _, anchor = target.partition("#")
    if "://" in target or not path:
        return f"[{text}]({target})"
    place = posixpath.normpath(posixpath.join(folder, path))
    ending = f"#{anchor}" if anchor else ""
    if place in ADOPTED:
        return f"[{text}]({ADOPTED[place]}{ending})"
    if place.startswith("docs/"):
        return f"[{text}]({place.removeprefix('docs/')}{ending})"
    if repo_url:
        return f"[{text}]({repo_url.rstrip('/')}/blob/main/{place}{ending})"
    if text == place or "`" in text:
        return text if "`" in text else f"`{text}`"
    return f"{text} (`{place}`)"


def _anchor(heading: str, _separator: str) -> str:
    """As code hosts make it: lower case, no punctuation, a hyphen for each space."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")
