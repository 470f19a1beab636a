"""`python -m tests.collector` builds the OpenTelemetry Collector and runs the test with it."""

from __future__ import annotations

import sys

import pytest

from tests.collector.program import CannotBuild, build

if __name__ == "__main__":
    try:
        build()
    except CannotBuild as error:
        sys.exit(str(error))
    sys.exit(pytest.main(["-q", "tests/collector"]))
