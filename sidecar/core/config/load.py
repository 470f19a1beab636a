"""From text and environment to a `Config`: read, override, validate, resolve."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.core.config.contradictions import contradictions
from sidecar.core.config.model import Config
from sidecar.core.config.overrides import apply_overrides
from sidecar.core.config.resolve import resolve
from sidecar.core.config.secret_files import ReadFile, read_secret_files
from sidecar.core.config.short_forms import expand
from sidecar.core.config.tree import Tree, read_tree, refuse_surrogates
from sidecar.core.config.typed_variables import type_references
from sidecar.core.config.validation import validate
from sidecar.core.errors import ConfigError

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


def load(
    text: str | None,
    *,
    source: str,
    environ: Mapping[str, str],
    read_file: ReadFile,
    overrides: Mapping[str, object] = _NOTHING,
) -> Config:
    """The configuration that a file, its environment and the command line's options make together.

    `text` is the YAML, or None where there is no file; `source` names it in faults. `overrides`
    holds options by key (`upstream`), which stand above `environ`, which stands above the file.
    `read_file` returns the text of a secret's file. Raises ConfigError with every `Fault` at once.
    """
    return load_tree(
        text, source=source, environ=environ, read_file=read_file, overrides=overrides
    )[0]


def load_tree(
    text: str | None,
    *,
    source: str,
    environ: Mapping[str, str],
    read_file: ReadFile,
    overrides: Mapping[str, object] = _NOTHING,
) -> tuple[Config, Tree]:
    """As `load`, with the tree that remembers where each key was written.

    The parameters stand twice, so that both are checked by their types.
    """
    tree = Tree(source) if text is None else read_tree(text, source, environ)
    type_references(tree)
    expand(tree.data)
    apply_overrides(tree, environ, overrides)
    expand(tree.data)
    refuse_surrogates(tree)
    read_secret_files(tree, read_file)
    document = validate(tree)
    tree.findings.extend(contradictions(tree.data, environ))
    if document is None or tree.findings:
        raise ConfigError(tree.faults())
    return resolve(document, environ), tree
