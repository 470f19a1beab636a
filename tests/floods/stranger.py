"""One flood, as a process of its own.

`python -m tests.floods.stranger NAME PORT BALANCED SECONDS`
"""

from __future__ import annotations

import sys

import uvloop

from tests.floods.strangers import flood, raise_descriptors

if __name__ == "__main__":
    raise_descriptors()
    name, port, balanced, seconds = sys.argv[1:]
    print(uvloop.run(flood(name, int(port), int(balanced), float(seconds))))
