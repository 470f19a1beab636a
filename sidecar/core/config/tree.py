"""YAML text as plain data that remembers the line of every key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from sidecar.core.config.faults import BadValue, Fault, Finding, KeyPath, dotted
from sidecar.core.config.references import (
    hide_references,
    referenced,
    show_references,
    substitute,
    whole_reference,
)
from sidecar.core.errors import ConfigError

MAX_CHARACTERS: Final = 256 * 1024
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 24

# A line of the file, or the name of the variable or option that set the key.
Place: TypeAlias = int | str

_TAG: Final = "tag:yaml.org,2002:"
_INVALID: Final = "invalid YAML"
_CHECK: Final = "check indentation, quotes and brackets"
_BOOLEANS: Final = {"true": True, "false": False}


class Mention(NamedTuple):
    """A key in whose value a variable is referred to; `is_whole`: and nothing else stands there."""

    path: KeyPath
    is_whole: bool


class Tree(msgspec.Struct):
    """A configuration on its way to becoming values; later stages change it in place."""

    source: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    places: dict[KeyPath, Place] = msgspec.field(default_factory=dict)
    findings: list[Finding] = msgspec.field(default_factory=list)
    # Keys whose fault has been found under another name, such as `secret` under `secret_file`.
    told: set[KeyPath] = msgspec.field(default_factory=set)
    # Keys whose value is that of one variable, `${NAME}`, and the variable's name.
    referenced: dict[KeyPath, str] = msgspec.field(default_factory=dict)
    # Every variable that the text refers to, and the keys in whose values it does.
    mentions: dict[str, list[Mention]] = msgspec.field(default_factory=dict)

    def find(self, path: KeyPath, problem: str, remedy: str, line: int | None = None) -> None:
        """Notes a fault of the key at `path`."""
        self.findings.append(Finding(path, problem, remedy, line))

    def forget(self, path: KeyPath) -> None:
        """Drop what is known about a key that is about to be replaced."""
        size = len(path)
        self.places = {known: at for known, at in self.places.items() if known[:size] != path}
        self.findings = [found for found in self.findings if found.path[:size] != path]
        self.referenced = {key: name for key, name in self.referenced.items() if key[:size] != path}
        for name, places in self.mentions.items():
            self.mentions[name] = [one for one in places if one.path[:size] != path]

    def faults(self) -> tuple[Fault, ...]:
        """Every finding with its place, in the file's order; one complaint per key and stage."""
        told = set(self.told)
        kept = []
        for finding in self.findings:
            if finding.line is not None:
                kept.append(self._locate(finding))
            elif finding.path not in told:
                kept.append(self._locate(finding))
                told.add(finding.path)
        return tuple(sorted(kept, key=lambda fault: fault.line or MAX_CHARACTERS))

    def place_of(self, path: KeyPath) -> str | None:
        """Where the value of a key was written, as people are told; None if it was not."""
        inside: Any = self.data
        for part in path:
            is_scalar = inside is not None and not isinstance(inside, dict | list)
            if is_scalar:
                break  # one value stands for a list or mapping of one
            if not _has(inside, part):
                return None
            inside = inside[part]
        place = self.locate(path)
        return f"{self.source}:{place}" if isinstance(place, int) else place

    def _locate(self, finding: Finding) -> Fault:
        place = finding.line or self.locate(finding.path)
        told = (dotted(finding.path), f"{finding.problem}{self._variable(finding)}", finding.remedy)
        if isinstance(place, str):
            return Fault(told[0], None, *told[1:], place)
        return Fault(told[0], place, *told[1:], self.source)

    def _variable(self, finding: Finding) -> str:
        """Names the variable whose value is at fault, unless the message is about names."""
        paths = (finding.path[:size] for size in range(len(finding.path), 0, -1))
        name = next((self.referenced[path] for path in paths if path in self.referenced), None)
        return f" (the value of {name})" if name and name not in finding.problem else ""

    def locate(self, path: KeyPath) -> Place | None:
        """Where the key stands, else the nearest key around it."""
        for size in range(len(path), 0, -1):
            if path[:size] in self.places:
                return self.places[path[:size]]
        return None


def refuse_surrogates(tree: Tree) -> None:
    """Tells of text that is no Unicode, and puts `?` for what is wrong, so that rules can read it.

    YAML has escapes for surrogates, and variables may hold bytes that are no UTF-8.
    """
    tree.data = _encodable(tree, tree.data, ())


def _encodable(tree: Tree, value: Any, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return {
            (clean := _clean(tree, name, path)): _encodable(tree, inner, (*path, clean))
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_encodable(tree, inner, (*path, at)) for at, inner in enumerate(value)]
    return _clean(tree, value, path) if isinstance(value, str) else value


def _clean(tree: Tree, text: str, path: KeyPath) -> str:
    clean = text.encode("utf-8", "replace").decode()
    if clean != text:
        tree.find(path, "must be text in UTF-8, without surrogates", "write the character itself")
    return clean


def value_at(data: Any, path: KeyPath) -> Any:
    """The value of a key in plain data; None if it is not there."""
    for part in path:
        data = data[part] if _has(data, part) else None
    return data


def _has(inside: Any, part: str | int) -> bool:
    """Whether a mapping or list has such a key or index."""
    if isinstance(inside, list):
        return isinstance(part, int) and part < len(inside)
    return isinstance(inside, dict) and part in inside


def read_tree(text: str, source: str, environ: Mapping[str, str] | None) -> Tree:
    """Parse YAML 1.2 and replace references; None for `environ` leaves `${` alone.

    Duplicate keys, custom tags and unset variables become findings. Raises ConfigError where the
    text is no YAML or is too large: nothing more can be said about it then.
    """
    tree = Tree(source)
    tree.mentions = {name: [] for name in referenced(text)}  # those of comments as well
    try:
        node = _compose(text)
        data = None if node is None else _Builder(tree, environ).build(node, ())
    except MarkedYAMLError as error:
        raise ConfigError((_syntax_fault(error, source),)) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1  # references are hidden in their length
        remedy = "remove the control character"
        raise ConfigError((Fault("", line, _INVALID, remedy, source),)) from None
    except (YAMLError, RecursionError):
        raise ConfigError((Fault("", None, _INVALID, _CHECK, source),)) from None
    except BadValue as error:
        raise ConfigError((Fault("", None, error.problem, error.remedy, source),)) from None
    if data is not None and not isinstance(data, dict):
        remedy = "write keys and values, such as `listen: 0.0.0.0:8080`"
        raise ConfigError((Fault("", None, "must be a mapping", remedy, source),))
    tree.data = data or {}
    return tree


def read_value(text: str) -> Any:
    """A YAML value out of an environment variable. Raises BadValue."""
    try:
        tree = read_tree(f"value:\n{_indented(text)}", "", None)
    except ConfigError:
        tree = None
    if tree is None or tree.findings:
        raise BadValue("must be a list or mapping in YAML", "write [a, b], for example")
    return tree.data["value"]


def read_scalar(text: str) -> Any:
    """What YAML takes a text for that stands there without quotes."""
    tag = YAML(typ="safe", pure=True).resolver.resolve(ScalarNode, text, (True, False))
    return _typed(str(tag).removeprefix(_TAG), text)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


_DEFECTS: Final = (
    *(LookupError, ValueError, ArithmeticError),
    *(TypeError, AttributeError, AssertionError),
)
"""What the parser raises for some texts that are no YAML, such as those of a version to come."""


def _compose(text: str) -> Node | None:
    if len(text) > MAX_CHARACTERS:
        raise BadValue(f"must have at most {MAX_CHARACTERS} characters", "move secrets into files")
    yaml, hidden = YAML(typ="safe", pure=True), hide_references(text)
    yaml.composer.warn_double_anchors = False  # YAML 1.2 3.2.2.2 has them; a warning shows the text
    try:
        node: Node | None = yaml.compose(hidden)
    except _DEFECTS:
        raise YAMLError from None
    return node


def _syntax_fault(error: MarkedYAMLError, source: str) -> Fault:
    """The parser's complaint without its excerpt of the text, which may hold a secret."""
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    is_tab = "'\\t'" in str(error.problem)
    return Fault("", line, _INVALID, "use spaces instead of tabs" if is_tab else _CHECK, source)


class _Builder:
    """Turns nodes into data. Counts them, since aliases can multiply a small file endlessly."""

    def __init__(self, tree: Tree, environ: Mapping[str, str] | None) -> None:
        self._tree = tree
        self._environ = environ
        self._nodes = 0

    def build(self, node: Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise BadValue(
                "must not have too many or deeply nested values", "use fewer YAML aliases"
            )
        self._tree.places.setdefault(path, node.start_mark.line + 1)
        self._check_tag(node, path)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = show_references(key_node.value) if isinstance(key_node, ScalarNode) else "?"
            where = (*path, key)
            if key in data:
                first = self._tree.places[where]
                self._find(where, "duplicate key", f"keep one (the first is on line {first})", line)
                continue
            self._tree.places[where] = line
            data[key] = self.build(value_node, where)
        return data

    def _scalar(self, node: Any, path: KeyPath) -> Any:
        text = show_references(node.value)
        if self._environ is not None and "${" in text:
            return self._substituted(text, path, self._environ, plain=not node.style)
        return _typed(_tag(node), text)

    def _substituted(
        self, text: str, path: KeyPath, environ: Mapping[str, str], *, plain: bool
    ) -> str | None:
        whole = whole_reference(text)
        for name in referenced(text):
            # An escape of YAML may make a reference that the text does not show.
            self._tree.mentions.setdefault(name, []).append(Mention(path, name == whole))
        try:
            replaced = substitute(text, environ)
        except BadValue as error:
            self._find(path, error.problem, error.remedy)
            return text
        if plain and whole is not None:
            self._tree.referenced[path] = whole
        return None if plain and replaced == "null" else replaced

    def _check_tag(self, node: Node, path: KeyPath) -> None:
        if _tag(node) not in _KNOWN_TAGS:
            self._find(path, "must not have a custom YAML tag", "write the plain value")

    def _find(self, path: KeyPath, problem: str, remedy: str, line: int | None = None) -> None:
        self._tree.find(path, problem, remedy, line)


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix(_TAG)


def _finite(text: str) -> float:
    """Raises `ValueError` for a number beyond all that JSON can say, such as 1e400."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


_TYPES: Final[Mapping[str, Callable[[str], Any]]] = {
    "null": lambda _: None,
    "bool": lambda text: _BOOLEANS.get(text.lower(), text),
    "int": int,
    "float": _finite,
}
_KNOWN_TAGS: Final = frozenset({*_TYPES, "str", "timestamp", "merge", "map", "seq"})


def _typed(tag: str, text: str) -> Any:
    """A plain scalar's value; what has no JSON counterpart (dates, .inf, 1e400) stays text."""
    try:
        return _TYPES[tag](text) if tag in _TYPES else text
    except ValueError:
        return text
