"""The provider as a command: each option and switch is a flag."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sidecar.demo.idp.options import Options, faults
from sidecar.demo.idp.pages import WARNING
from sidecar.demo.idp.serve import running_idp

_WRONG: Final = 2
_FURTHER: Final = "clients"  # for Python only
_WELCOME: Final = """\
Rehearsal identity provider: {issuer}  (Ctrl+C ends it)
{warning}
client_id: {client_id}; switches and counters: {issuer}/_rehearsal
"""


def _flag(name: str, field: FieldInfo) -> click.Option:
    """The flag for one option; what takes several values is a flag that can be repeated."""
    several = isinstance(field.default, tuple)
    singular = name.removesuffix("s") if several else name
    default = ", ".join(field.default) if several else field.default
    text = (field.description or "").replace("`", "")
    shown = "" if default in {"", None} or name == "outage_of" else f"  [default: {default}]"
    return click.Option(
        [f"--{singular.replace('_', '-')}", name],
        multiple=several,
        metavar="VALUE",
        help=f"{text[:1].upper()}{text[1:]}.{shown}",
    )


def _run(**flags: Any) -> NoReturn:
    options = {name: value for name, value in flags.items() if value not in {None, ()}}
    try:
        asyncio.run(_serve(options))
    except ValidationError as error:
        for fault in faults(error):
            click.echo(fault, err=True)
        sys.exit(_WRONG)
    except OSError as error:
        click.echo(f"cannot listen: {error.strerror or error}; choose another --port", err=True)
        sys.exit(_WRONG)
    sys.exit(0)


command: Final = click.Command(
    "idp",
    callback=_run,
    params=[_flag(name, field) for name, field in Options.model_fields.items() if name != _FURTHER],
    help="Serve an identity provider for rehearsals on the loopback interface, until SIGTERM.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


async def _serve(options: dict[str, Any]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_idp(**options) as idp:
        about = {"issuer": idp.issuer, "warning": WARNING, "client_id": idp.client_id}
        click.echo(_WELCOME.format_map(about), nl=False)
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code: 0, or 2 for wrong usage."""
    command.main(args=arguments, prog_name="sidecar idp")
    raise AssertionError("click exits")
