"""Records: classes of values that do not change, and copies of them in which something does.

They are Structs of msgspec, whose classes are made in a tenth of the time that a dataclass takes,
which is most of the time to import a module of them; and their instances in half of it. What a
Struct does not have, fields that `repr` hides or `==` leaves out, makes a record a dataclass.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

__all__ = ["is_record", "names_of", "replace", "values_of"]

if TYPE_CHECKING:
    from dataclasses import replace  # takes Structs for dataclasses, and checks fields
else:

    def replace(record: Any, /, **changes: Any) -> Any:
        """A copy of a record in which fields have other values."""
        if isinstance(record, msgspec.Struct):
            return msgspec.structs.replace(record, **changes)
        return dataclasses.replace(record, **changes)


def is_record(value: object) -> bool:
    """Whether a value is one, of either kind."""
    return isinstance(value, msgspec.Struct) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def names_of(record: Any) -> tuple[str, ...]:
    """The names of the fields of a record, or of its class."""
    if dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record))
    return tuple(record.__struct_fields__)


def values_of(record: Any) -> dict[str, Any]:
    """The fields by name; records in them stay records."""
    return {name: getattr(record, name) for name in names_of(record)}
