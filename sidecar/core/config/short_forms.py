"""Short forms: a value for a list of one, for a section's main key, or for all its defaults.

They are spelled out in the plain data, by the types of the models, so that every rule that reads it
sees one form alone. What cannot be a short form stays, and is told by its type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, BeforeValidator, PlainValidator
from pydantic.fields import FieldInfo

from sidecar.core.config.fields import SCALAR, section_of_switch, switch_of
from sidecar.core.config.model import ConfigDocument

Model: TypeAlias = type[BaseModel]

MAIN_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Upstream": "url",
        "Check": "path",
        "StoreSection": "url",
        "Hook": "url",
        "Cors": "origins",
        "Csrf": "enabled",
        "BridgeSection": "hold",
        "Tracing": "endpoint",
    }
)
"""The sections that one value may stand for, and the key that it then is."""

SWITCHED: Final = frozenset(("BrakeSection", "Ejection"))
"""Sections of which true is every default, and false is null."""


class Shape(msgspec.Struct, frozen=True):
    """What the value of a key may be, as far as its structure goes."""

    models: tuple[Model, ...] = ()  # the sections that it, or an item of it, may be
    is_list: bool = False  # of sections, or of values, of which one may stand for it
    is_mapping: bool = False  # of names to such sections, or to values
    is_nullable: bool = False
    is_text: bool = False  # any text, which is one value
    is_scalar: bool = False  # text, a number or a switch; or, beside is_list, each item is
    is_any: bool = False  # any JSON value
    reads_itself: bool = False  # as a secret or the path of a member: one, or several in a form

    @property
    def is_structured(self) -> bool:
        """Whether a list or a mapping may be written."""
        is_one = self.is_list or self.is_mapping or self.is_any or self.reads_itself
        return is_one or bool(self.models)


def expand(data: dict[str, Any]) -> None:
    """Spells out every short form in the plain data of a configuration, in place."""
    _expand_section(ConfigDocument, data)


def shape_of(data: Any, path: tuple[str | int, ...]) -> Shape | None:
    """The shape of the key at `path` of the plain data; None if there is no such key."""
    shape: Shape | None = Shape((ConfigDocument,))
    inside: Any = data
    for part in path:
        if shape is None:
            return None
        inside, shape = _inner(inside, part), _below(shape, inside, part)
    return shape


def _below(shape: Shape, inside: Any, part: str | int) -> Shape | None:
    if shape.is_list and isinstance(part, int):
        is_text = not shape.models and not shape.is_scalar
        return Shape(shape.models, is_text=is_text, is_scalar=shape.is_scalar)
    if shape.is_mapping and isinstance(part, str):
        return Shape(shape.models) if shape.models else Shape(is_text=True, is_nullable=True)
    models = _of_type(shape, inside) or shape.models  # its type may be set by a later variable
    return next((found for one in models if (found := keys_of(one).get(str(part)))), None)


def _inner(inside: Any, part: str | int) -> Any:
    if isinstance(inside, dict):
        return inside.get(str(part))
    is_there = isinstance(inside, list) and isinstance(part, int) and part < len(inside)
    return inside[part] if is_there else None


def _expand_section(model: Model, data: dict[str, Any]) -> None:
    for key, shape in keys_of(model).items():
        if data.get(key) is not None:
            data[key] = _expanded(shape, data[key])


def _expanded(shape: Shape, value: Any) -> Any:
    if shape.is_list:
        if isinstance(value, SCALAR) and not shape.models:
            return [value]
        return [_as_section(shape, one) for one in value] if isinstance(value, list) else value
    if shape.is_mapping:
        if shape.models and isinstance(value, dict):
            return {key: _as_section(shape, one) for key, one in value.items()}
        return value
    return _as_section(shape, value)


def _as_section(shape: Shape, value: Any) -> Any:
    """A section's value, whose own keys are spelled out too."""
    models = _of_type(shape, value)
    if not models:
        return value
    main = MAIN_KEYS.get(models[0].__name__)
    if isinstance(value, SCALAR) or (isinstance(value, list) and models[0].__name__ == "Cors"):
        if main is not None and (isinstance(value, bool) is (main == "enabled")):
            value = {main: value}
        elif main == "enabled" and switch_of(value) is not None:
            value = {main: switch_of(value)}
        elif models[0].__name__ in SWITCHED and switch_of(value) is not None:
            return section_of_switch(value)
    if isinstance(value, dict):
        _expand_section(models[0], value)
    return value


def _of_type(shape: Shape, value: Any) -> tuple[Model, ...]:
    """The section that a value is: of several the one that its `type` names."""
    if len(shape.models) < 2:
        return shape.models
    kind = value.get("type") if isinstance(value, dict) else None
    return tuple(one for one in shape.models if kind in _kinds(one))


def _kinds(model: Model) -> tuple[Any, ...]:
    return get_args(model.model_fields["type"].annotation)


@cache
def keys_of(model: Model) -> Mapping[str, Shape]:
    """The shapes of a section's keys, by their written names."""
    return {info.alias or name: _shape(info) for name, info in model.model_fields.items()}


def _shape(info: FieldInfo) -> Shape:
    parts = [*_parts(info.annotation, tuple(info.metadata))]
    models = tuple(one for kind, own in parts for one in _models(kind))
    kinds = {kind for kind, _ in parts}
    several = [(kind, how) for kind, how in parts if get_origin(kind) in (tuple, _MAPPING)]
    lists = [kind for kind, how in several if _is_list(kind, how)]
    items = {inner for kind in lists for inner, _ in _parts(get_args(kind)[0], ())}
    return Shape(
        models,
        is_list=bool(lists),
        is_mapping=any(get_origin(kind) is _MAPPING for kind, _ in several),
        is_nullable=NoneType in kinds,
        is_text=str in kinds and not kinds >= _SCALARS,
        is_scalar=kinds >= _SCALARS or items >= _SCALARS,
        is_any=Any in kinds,
        reads_itself=any(how and kind not in lists for kind, how in several),
    )


def _is_list(kind: Any, how: Any) -> bool:
    """Whether it is a list of sections or plain values, also if it takes one value besides.

    What reads its value itself has short forms of its own: secrets, paths of members, listeners.
    """
    if get_origin(kind) is not tuple or how is PlainValidator:
        return False
    return how is None or {inner for inner, _ in _parts(get_args(kind)[0], ())} >= _SCALARS


_SCALARS: Final = {str, int, bool}
_MAPPING: Final = get_origin(Mapping[str, str])


def _parts(kind: Any, metadata: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """The alternatives of an annotation, each with the type of its own validator, or None."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        yield from _parts(inner, (*metadata, *more))
    elif origin in (Union, UnionType):
        for one in get_args(kind):
            yield from _parts(one, metadata)
    else:
        sorts = {type(one) for one in metadata}
        yield kind, next((one for one in (PlainValidator, BeforeValidator) if one in sorts), None)


def _models(kind: Any) -> Iterator[Model]:
    """The sections that a list, a mapping or the value itself consists of."""
    for one in (kind, *get_args(kind)):
        for inner, _ in _parts(one, ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield inner
