"""`${NAME}` and `${NAME:-default}` in a configuration's scalars; `$${` stands for a literal `${`.

What comes from the environment is text: it never changes the structure of the YAML around it and is
not typed by YAML's rules, so that a secret of digits keeps its leading zeros. Keys that want a
number or a switch read it from the text (`8080`, `true`), and a list may be one unquoted reference
whose value is separated by commas (`typed_variables`); an unquoted scalar that reads `null` after
replacement is null. As in a POSIX shell, `:-` also stands in for an empty variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.core.config.faults import BadValue

REFERENCE_PATTERN: Final = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}"

# Quotes end it, but in a default, so that a `${` in quotes takes nothing along that stands behind.
_CANDIDATE: Final = re.compile(
    r"\$?\$\{(?:[A-Za-z_][A-Za-z0-9_]*:-[^{}\n]*\}|[^{}\n\"']*\})?", re.ASCII
)
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}\n]*))?\}", re.ASCII)

# YAML ends a plain scalar of a flow mapping at `{` or `}`, so `{secret: ${NAME}}` would not parse.
# References therefore travel through the parser as private-use characters.
_SHIFT: Final = 0xE000
_HIDE: Final = {code: code + _SHIFT for code in range(0x20, 0x7F)}
_SHOW: Final = {hidden: code for code, hidden in _HIDE.items()}
_PRIVATE: Final = re.compile("[\ue020-\ue07e]")


def hide_references(text: str) -> str:
    """The YAML text with every reference out of the parser's sight; lines stay where they are.

    Raises BadValue if the text holds characters that the hiding needs for itself.
    """
    if _PRIVATE.search(text):
        raise BadValue("must not have private-use characters (U+E020 to U+E07E)", "remove them")
    return _CANDIDATE.sub(lambda match: match[0].translate(_HIDE), text)


def show_references(text: str) -> str:
    """The inverse of `hide_references`, for a scalar that came out of the parser."""
    return text.translate(_SHOW)


def referenced(text: str) -> frozenset[str]:
    """The names of the variables that a configuration's text refers to."""
    found = (_REFERENCE.fullmatch(one[0]) for one in _CANDIDATE.finditer(text))
    return frozenset(match[1] for match in found if match is not None)


def whole_reference(text: str) -> str | None:
    """The name of the variable that a scalar is the value of; None if there is more in it."""
    match = _REFERENCE.fullmatch(text)
    return None if match is None else match[1]


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """The text with its references replaced; what was put in is not looked at again.

    Raises BadValue naming every variable that is neither set nor has a default.
    """
    unset: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return _value(match[0], environ, unset)

    replaced = _CANDIDATE.sub(replace, text)
    if unset:
        raise BadValue(
            f"environment variable {', '.join(unset)} is not set",
            f"set it, or write ${{{unset[0]}:-default}}",
        )
    return replaced


def _value(reference: str, environ: Mapping[str, str], unset: list[str]) -> str:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise BadValue(
            "malformed reference", "write ${NAME} or ${NAME:-default}, and $${ for a literal ${"
        )
    name, default = match.groups()
    if default is not None:
        return environ.get(name) or default
    if name not in environ:
        unset.append(name)
    return environ.get(name, "")
