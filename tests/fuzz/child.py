"""One target under libFuzzer, by atheris: `python -m tests.fuzz.child NAME LIBFUZZER-ARGUMENTS…`.

`requirements-fuzz.lock` has atheris, which is no part of the other requirements.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz import registry


def main() -> None:
    """Runs the target that the first argument names."""
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["sidecar"]):
        target = registry.load(name)

    def check(data: bytes) -> None:
        target.check(data)

    # libFuzzer runs its first argument anew by a shell, to merge what several runs have found.
    again = f"{sys.executable} -m tests.fuzz.child {name}"
    atheris.Setup([again, *arguments], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
