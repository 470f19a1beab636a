"""Reads a configuration and the files that it names, and remembers what they held."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.core.config import Fault
from sidecar.core.config.files import named_files
from sidecar.core.config.load import load, load_tree
from sidecar.core.config.variables import variables
from sidecar.core.errors import ConfigError
from sidecar.file_watch import Digests, digest_of_bytes, digest_of_file
from sidecar.late_imports import import_needed
from sidecar.secrecy import conceal

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.core.config.secret_files import ReadFile
    from sidecar.core.config.tree import Tree

NO_FILE: Final = "no configuration file"
_REMEDY: Final = "use -c to name another file"


class UnreadableConfig(OSError):
    """The configuration's file cannot be read. The text has its path, the cause and the remedy."""

    def __init__(self, path: str, error: OSError) -> None:
        cause = error.strerror or type(error).__name__
        super().__init__(f"{path}: cannot be read: {cause}; {_REMEDY}")


class ConfigLoader:
    """Loads the file at `path` (None: there is none) with the command line's `options` (`Load`).

    `hides`: the variables that it is made of cannot be read in /proc any more (`secrecy.conceal`).
    """

    def __init__(
        self, path: str | None, options: Mapping[str, object], *, hides: bool = False
    ) -> None:
        self._path: Final = path
        self._options: Final = options
        self._hides: Final = hides
        self._read: dict[str, bytes | None] = {}

    @property
    def digests(self) -> Digests:
        """What the last attempt came to see of the files, so that a change can be told."""
        return self._read

    def __call__(self) -> Config:
        """Raises `ConfigError`, and `UnreadableConfig`."""
        self._read = {}
        text = None if self._path is None else config_text(self._path, self._noted)
        if self._hides:
            conceal(variables(text, os.environ))
        config = load(
            text,
            source=self._path or NO_FILE,
            environ=os.environ,
            read_file=self._noted,
            overrides=self._options,
        )
        # Looked at before they are used: what changes in between is seen as a change.
        self._read |= {path: digest_of_file(path) for path in named_files(config)}
        import_needed(config)
        return config

    def tree(self) -> tuple[Config, Tree]:
        """The configuration as it is on disk, and where its keys are written; notes nothing.

        Raises what a call raises.
        """
        return load_tree(
            None if self._path is None else config_text(self._path, plain_text),
            source=self._path or NO_FILE,
            environ=os.environ,
            read_file=plain_text,
            overrides=self._options,
        )

    def _noted(self, path: str) -> str:
        file = Path(path)
        is_odd = file.exists() and not file.is_file()  # such as a pipe, which can be read once
        if not is_odd:
            self._read[path] = None
        data = file.read_bytes()
        if not is_odd:
            self._read[path] = digest_of_bytes(data)
        return io.StringIO(data.decode("utf-8"), newline=None).read()


def config_text(path: str, read: ReadFile) -> str:
    """What the configuration's file holds. Raises `UnreadableConfig`, `ConfigError` for no text."""
    try:
        return read(path)
    except OSError as error:
        raise UnreadableConfig(path, error) from None
    except UnicodeError:
        fault = Fault("", None, "must be UTF-8 text", _REMEDY, path)
        raise ConfigError((fault,)) from None


def plain_text(path: str) -> str:
    """What a file holds. Raises `OSError` and `UnicodeError`."""
    return Path(path).read_text(encoding="utf-8")
