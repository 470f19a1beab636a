"""Text from the environment, read by the type of the key that it is for.

Text for a key that takes text stays as it is, whatever it looks like: `0123`, `1e5`, `yes`, `[a`.
Numbers, switches, durations and sizes are read by the keys themselves. A list may be separated by
commas, or be YAML or JSON, as a mapping must be. `null` is null, but for keys that take text and
cannot be null. Where the file's quotes decide between text and number, a variable is read as YAML
reads unquoted text.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sidecar.core.config.faults import BadValue
from sidecar.core.config.short_forms import Shape, shape_of
from sidecar.core.config.tree import Tree, read_scalar, read_value

_STARTS: Final = ("[", "{", "- ")
_CODE: Final = re.compile(r"[-+]?0[0-9].*|.*_.*", re.DOTALL)
_UNKNOWN: Final = Shape(is_mapping=True)
"""Of a key that there is not, which is told by its name."""


def typed(text: str, shape: Shape | None) -> Any:
    """What a variable's text means for a key. Raises BadValue for YAML that is none."""
    shape = shape or _UNKNOWN
    if text == "null" and (shape.is_nullable or not (shape.is_text or shape.reads_itself)):
        return None
    if text.startswith(_STARTS) and shape.is_structured:
        return _structured(text, shape)
    if shape.is_list and not shape.models:
        return [*map(_scalar, _items(text))] if shape.is_scalar else _items(text)
    return _scalar(text) if shape.is_scalar or shape.is_any else text


def type_references(tree: Tree) -> None:
    """Reads the values that `${NAME}` alone has put in place of lists, and of any scalar."""
    for path in tree.referenced:
        shape = shape_of(tree.data, path)
        inside: Any = tree.data
        for part in path[:-1]:
            inside = inside[part]
        text = inside[path[-1]]
        if shape is None or shape.models or not isinstance(text, str):
            continue
        if not shape.is_list and not shape.is_scalar:
            continue
        try:
            inside[path[-1]] = typed(text, shape)
        except BadValue as error:
            tree.find(path, error.problem, error.remedy)


def _structured(text: str, shape: Shape) -> Any:
    """A list or mapping. A secret, an address or a claim's name may merely begin like one."""
    try:
        found = read_value(text)
    except BadValue:
        if shape.reads_itself:
            return text
        raise
    wanted = dict if shape.is_mapping else list | dict
    return found if isinstance(found, wanted) or not shape.reads_itself else text


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _scalar(text: str) -> Any:
    """A number, switch or null as in YAML, or a text in JSON's quotes; else the text itself.

    With leading zeros or `_` it is rather a code than a number, and JSON has no such numbers.
    """
    if text.startswith('"'):
        try:
            return msgspec.json.decode(text, type=str)
        except (msgspec.DecodeError, UnicodeError):
            return text
    return text if not text or _CODE.fullmatch(text) else read_scalar(text)
