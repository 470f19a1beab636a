"""One flood, as a process of its own: `python -m tests.floods.stranger NAME PORT SECONDS`."""

from __future__ import annotations

import sys

import uvloop

from tests.floods.strangers import flood, raise_descriptors

if __name__ == "__main__":
    raise_descriptors()
    print(uvloop.run(flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
