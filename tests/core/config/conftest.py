"""How every test of the configuration loads one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from sidecar.core.config import Config, Fault, load
from sidecar.core.errors import ConfigError

Loader: TypeAlias = Callable[..., Config]
FaultFinder: TypeAlias = Callable[..., tuple[Fault, ...]]


@pytest.fixture(scope="session")
def loaded() -> Loader:
    """`loaded(text, environ, files, **options)` is the configuration they make."""

    def load_it(
        text: str | None,
        environ: Mapping[str, str] | None = None,
        files: Mapping[str, str | Exception] | None = None,
        **options: object,
    ) -> Config:
        def read_file(path: str) -> str:
            content = (files or {}).get(path, FileNotFoundError(2, "No such file or directory"))
            if isinstance(content, Exception):
                raise content
            return content

        return load(
            text, source="file.yaml", environ=environ or {}, read_file=read_file, overrides=options
        )

    return load_it


@pytest.fixture(scope="session")
def faults(loaded: Loader) -> FaultFinder:
    """`faults(…)` takes what `loaded` takes and returns the faults found."""

    def find(*arguments: object, **options: object) -> tuple[Fault, ...]:
        with pytest.raises(ConfigError) as caught:
            loaded(*arguments, **options)
        assert all(isinstance(fault, Fault) for fault in caught.value.faults)
        return tuple(fault for fault in caught.value.faults if isinstance(fault, Fault))

    return find
