"""aiohttp by its parts: importing its parser does not import its client.

Python runs the package's `__init__` before any module of it, and that imports the whole client,
which reads the system's certificate authorities while it is imported: a fifth of the time of a
start, in vain where no provider is asked.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Final

_NAME: Final = "aiohttp"


def import_by_parts() -> None:
    """Has a package without content stand for aiohttp, unless it is imported already.

    Its modules are imported when they are asked for, and its `__init__` runs as soon as anything is
    asked for that is none: whoever imports aiohttp gets all of it, with no difference but the time.
    """
    spec = None if _NAME in sys.modules else find_spec(_NAME)
    if spec is None:
        return
    package = module_from_spec(spec)
    vars(package)["__version__"] = version(_NAME)
    vars(package)["__getattr__"] = partial(_part, package)
    sys.modules[_NAME] = package


def _part(package: ModuleType, name: str) -> Any:
    """A module of the package, or what its `__init__` has by that name."""
    if name.startswith("__"):
        raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
    if find_spec(f"{_NAME}.{name}") is not None:
        __import__(f"{_NAME}.{name}")  # as the statement does: `-X importtime` tells of it
        return sys.modules[f"{_NAME}.{name}"]
    spec = package.__spec__
    assert spec is not None
    assert spec.loader is not None
    del vars(package)["__getattr__"]
    spec.loader.exec_module(package)
    return getattr(package, name)
