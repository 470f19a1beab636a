"""`python -m sidecar.demo.idp`."""

from sidecar.demo.idp.command import main

main()
