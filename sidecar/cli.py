"""The command line. Imports what a command needs when it runs, so that `--version` and `health`,
which containers run every few seconds, are fast.

Exit codes: 0 fine, 1 what was asked is not well, 2 wrong usage or configuration.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from sidecar import __version__

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.core.config.tree import Tree

WRONG: Final = 2
CONFIG_VARIABLE: Final = "SIDECAR_CONFIG"
NO_FILE: Final = "no configuration file"
DEFAULT_FILES: Final = ("sidecar.yaml", "/etc/sidecar/sidecar.yaml")

_SECRET_BYTES: Final = 32
OWN_PROCESS: Final = True
"""The object of a command that has this process for itself, as one in a test has not."""

Answer = TypeVar("Answer")

_file_option = click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    envvar=CONFIG_VARIABLE,
    help="Configuration file. Default: $SIDECAR_CONFIG, ./sidecar.yaml, /etc/sidecar/sidecar.yaml.",
)


_admin_option = click.option(
    "--admin",
    metavar="ADDRESS",
    help="Where its admin listener is. Default: the configuration's `admin`.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sidecar", message="%(prog)s %(version)s")
def cli() -> None:
    """A reverse proxy that owns the session, so that frontends need not."""


@cli.command()
@_file_option
@click.option("--upstream", metavar="URL", help="One upstream for every path. Needs no file.")
@click.pass_obj
def run(is_own: bool | None, file: str | None, upstream: str | None) -> NoReturn:
    """Serve until SIGTERM. SIGHUP has the configuration read anew, SIGUSR2 restarts."""
    options = {} if upstream is None else {"upstream": upstream}
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # until there is something to reload or replace
    from sidecar.config_loader import ConfigLoader
    from sidecar.net.aiohttp_parts import import_by_parts

    import_by_parts()
    path = _config_file(file)
    load = ConfigLoader(path, options, hides=bool(is_own))
    config = _or_exit(load)
    if config.core_dumps:
        from sidecar.secrecy import allow_core_dumps

        allow_core_dumps()
    from sidecar.workers import run as serve

    sys.exit(_with_parsers(lambda: serve(config, load)))


@cli.command()
@_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@click.option("--effective", is_flag=True, help="Print every key with its value and origin.")
@click.option("--probe", is_flag=True, help="Ask the upstreams, the provider and the store once.")
def check(
    file: str | None, *, as_json: bool, strict: bool, effective: bool, probe: bool
) -> NoReturn:
    """Check whether `run` can start, and print what the configuration means.

    The exit code is 2 for errors (with --strict also for warnings), and 1 if a server that --probe
    asks does not answer.
    """
    from sidecar.check import CheckReport

    path = _config_file(file)
    checked = CheckReport(path or NO_FILE, os.environ)
    checked.read(lambda: _tree(path, {}), asks=probe)
    lines = checked.as_json(effective=effective) if as_json else checked.lines(effective=effective)
    click.echo("\n".join(lines), nl=bool(lines))
    if not as_json:
        for line in checked.complaints():
            click.echo(line, err=True)
    sys.exit(checked.exit_code(strict=strict))


@cli.command()
@_file_option
@click.option("--ready", is_flag=True, help="Ask whether it is ready for requests, too.")
@_admin_option
def health(file: str | None, *, ready: bool, admin: str | None) -> NoReturn:
    """Ask the running sidecar whether it is alive. The exit code is 0 or 1.

    With --admin no configuration is read. Probes should use it: a file that is broken by now says
    nothing of the sidecar that runs, and the answer costs a quarter of the time.
    """
    address = admin or _admin_address(file)
    from sidecar.health import ask

    try:
        is_good, said = ask(address, ready=ready)
    except ValueError as error:
        click.echo(f"--admin: {error}", err=True)
        sys.exit(WRONG)
    click.echo(said, err=not is_good)
    sys.exit(0 if is_good else 1)


@cli.group()
def sessions() -> None:
    """Act on the sessions of the running sidecar."""


@sessions.command("end")
@_file_option
@click.option("--user", metavar="SUB", help="Every session of this user of `oidc`.")
@click.option("--sid", metavar="SID", help="Those of one session at the provider of `oidc`.")
@click.option("--email", metavar="ADDRESS", help="Every session whose verified email this is.")
@click.option("--session", metavar="FP", help="One session, by its fingerprint in the log.")
@click.option("--issuer", metavar="URL", help="The provider that names the user.")
@_admin_option
def end_sessions(
    file: str | None,
    *,
    user: str | None,
    sid: str | None,
    email: str | None,
    session: str | None,
    issuer: str | None,
    admin: str | None,
) -> NoReturn:
    """End sessions everywhere: cookies are refused, streams end, tokens are revoked.

    The exit code is 1 if that could not be done.
    """
    from sidecar.admin_call import end_sessions as end
    from sidecar.core.end_request import EndRequest

    if sum(one is not None for one in (user, sid, email, session)) != 1:
        raise click.UsageError("needs one of --user, --sid, --email and --session")
    address = admin or _admin_address(file)
    try:
        result = end(address, EndRequest(user, sid, email, session, issuer))
    except ValueError as error:
        click.echo(f"--admin: {error}", err=True)
        sys.exit(WRONG)
    click.echo(result.in_words(), err=result.result != "done")
    sys.exit({"done": 0, "refused": WRONG}.get(result.result, 1))


@cli.command()
@_file_option
@_admin_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole document as JSON.")
def status(file: str | None, *, admin: str | None, as_json: bool) -> NoReturn:
    """Show what the running sidecar sees. The exit code is 1 if it is not well."""
    from sidecar.status_command import document

    body = _asked(lambda: document(admin or _admin_address(file)))
    if as_json:
        click.echo(body.decode())
        sys.exit(0)
    import msgspec

    from sidecar.observation.status_model import Status
    from sidecar.observation.status_text import screen

    told = msgspec.json.decode(body, type=Status)
    click.echo("\n".join(screen(told)))
    sys.exit(0 if told.verdict.state == "well" else 1)


@cli.command()
@_file_option
@_admin_option
@click.option("--session", metavar="FINGERPRINT", help="Requests of one session only.")
@click.option("--errors", is_flag=True, help="Requests that failed only: 5xx, or broken off.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each.")
def tail(
    file: str | None, *, admin: str | None, session: str | None, errors: bool, as_json: bool
) -> NoReturn:
    """Follow the requests of the running sidecar, a line each.

    With --session, what is remembered of the session comes first.
    """
    from sidecar.observation.status_text import line, story_lines
    from sidecar.status_command import requests, story

    def follow() -> None:
        asked = admin or _admin_address(file)
        if session is not None:
            for one in story_lines(story(asked, session), as_json=as_json):
                click.echo(one)
            sys.stdout.flush()
        for facts in requests(asked, session=session, errors=errors):
            click.echo(_json(facts) if as_json else line(facts))
            sys.stdout.flush()

    _asked(follow)
    sys.exit(0)


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port on 127.0.0.1. 0 means any free port.",
)
@click.option("--verbose", is_flag=True, help="Print the access log.")
def demo(port: int, verbose: bool) -> NoReturn:
    """Show everything on built-in parts, in one process."""
    from sidecar.demo import main as show

    sys.exit(_with_parsers(lambda: show(port=port, verbose=verbose)))


@cli.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS]",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def idp(arguments: Sequence[str]) -> NoReturn:
    """Serve an identity provider that misbehaves on demand, for tests."""
    from sidecar.demo.idp.command import main as serve

    serve(arguments)


@cli.command()
@_file_option
@click.option(
    "--cookie",
    default="-",
    metavar="HEADER",
    help="The value of a Cookie header. Default: -, standard input, which no process list shows.",
)
@click.option(
    "--now", type=float, metavar="UNIX", help="The time to use. Default: the current time."
)
@click.option(
    "--request",
    metavar="LINE",
    help="A request, such as 'GET /api/a': adds its route and what is decided on the way.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(
    file: str | None, cookie: str, now: float | None, request: str | None, as_json: bool
) -> None:
    """Explain what the session sources read in a Cookie header. Never prints a token."""
    config = _load(file, {})
    text = _header_value(_standard_input() if cookie == "-" else cookie)
    moment = time.time() if now is None else now
    facts = _explained(config, text, moment, request)
    click.echo(_json(facts) if as_json else "\n".join(_lines(facts)))


def _explained(config: Config, cookie: str, now: float, request: str | None) -> Mapping[str, Any]:
    """What `explain` prints, or an exit with the fault of the request."""
    if request is None:
        from sidecar.compilation.compile_sources import compile_sources
        from sidecar.explain import explain as explained

        return explained(compile_sources(config), cookie, now)
    from sidecar.compilation.compile_policy import compile_policy
    from sidecar.core.errors import BadRequest
    from sidecar.web.explanation import explain_request
    from sidecar.web.foresight import Foresight

    try:
        policy = compile_policy(config, os.urandom(_SECRET_BYTES))
        return explain_request(Foresight(policy), request, cookie, now)
    except (BadRequest, OSError) as error:
        click.echo(f"--request: {error}", err=True)
        sys.exit(WRONG)


@cli.command()
@click.argument("stack", type=click.Choice(("nextjs", "spa", "sveltekit", "oidc")))
@click.option(
    "-o",
    "--output",
    default="sidecar.yaml",
    show_default=True,
    metavar="FILE",
    help="The file to write; it must not exist. - prints it.",
)
def init(stack: str, output: str) -> None:
    """Write a commented configuration to begin with."""
    from sidecar.stacks import configuration, next_steps

    text = configuration(stack)
    if output == "-":
        click.echo(text, nl=False)
        return
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        click.echo(f"{output}: must not exist; use -o to name another file", err=True)
        sys.exit(WRONG)
    except OSError as error:
        click.echo(f"{output}: cannot be written: {error.strerror}", err=True)
        sys.exit(WRONG)
    click.echo("\n".join([f"{output} is written", *next_steps(text)]))


@cli.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print a script that completes commands and options in a shell."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "sidecar", "_SIDECAR_COMPLETE").source(), nl=False)


@cli.command("schema")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a page with every key.")
def print_schema(*, as_markdown: bool) -> None:
    """Print the JSON Schema of the configuration."""
    from sidecar.core.config import schema

    if as_markdown:
        from sidecar.reference_page import markdown

        click.echo(markdown(schema()), nl=False)
        return
    click.echo(_json(schema(), indent=2))


@cli.command()
def typescript() -> None:
    """Print a TypeScript file with types and a fetch helper for frontends."""
    from sidecar import frontend

    click.echo(frontend.typescript(), nl=False)


@cli.command()
def keygen() -> None:
    """Print a new secret: 32 random bytes in base64url."""
    import base64

    click.echo(base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).rstrip(b"=").decode())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    from sidecar.secrecy import forbid_core_dumps

    forbid_core_dumps()  # before any secret is read
    sys.excepthook = _tell_defect
    # Nearly all that is made while modules are imported stays, so that to look for garbage every
    # 700 objects is a tenth of the time of a start.
    gc.set_threshold(200_000, 50, 50)
    # pydantic would look through the metadata of every library that is installed for plugins, and
    # have those that it finds see the configuration with its secrets.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    cli.main(args=arguments, prog_name="sidecar", obj=OWN_PROCESS)
    raise AssertionError("click exits")


def _tell_defect(kind: type[BaseException], error: BaseException, _: object) -> None:
    """Says what ended the process, and where: not its text, which may hold a secret."""
    from sidecar.strays import places

    click.echo("\n".join(("a defect of the sidecar:", *places(error), kind.__name__)), err=True)


def _with_parsers(serve: Callable[[], int]) -> int:
    """The exit code of what serves; one line and `WRONG` if aiohttp lacks its C parsers."""
    from sidecar.net.parsers import ParserMissing

    try:
        return serve()
    except ParserMissing as error:
        click.echo(str(error), err=True)
        return WRONG


def _load(file: str | None, options: Mapping[str, object]) -> Config:
    """The configuration, or an exit with every fault on standard error."""
    path = _config_file(file)
    return _or_exit(lambda: _tree(path, options)[0])


def _or_exit(load: Callable[[], Config]) -> Config:
    """What `load` returns, or an exit with every fault on standard error."""
    from sidecar.core.errors import ConfigError

    try:
        return load()
    except (ConfigError, OSError) as error:
        click.echo(str(error), err=True)
    sys.exit(WRONG)


def _admin_address(file: str | None) -> str:
    """Where the configuration has the admin listener, or an exit."""
    config = _load(file, {})
    if config.admin is None:
        click.echo("admin: must not be null; set it to the address to ask", err=True)
        sys.exit(1)
    return str(config.admin)


def _asked(ask: Callable[[], Answer]) -> Answer:
    """What a running sidecar answers, or an exit with why there is no answer."""
    from sidecar.status_command import NoAnswer

    try:
        return ask()
    except ValueError as error:
        click.echo(f"--admin: {error}", err=True)
        sys.exit(WRONG)
    except NoAnswer as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _config_file(file: str | None) -> str | None:
    return file or next((name for name in DEFAULT_FILES if os.path.exists(name)), None)


def _tree(path: str | None, options: Mapping[str, object]) -> tuple[Config, Tree]:
    """The configuration and where its keys were written.

    Raises `ConfigError`, and `OSError` if the file cannot be read.
    """
    from sidecar.config_loader import config_text, plain_text
    from sidecar.core.config.load import load_tree

    return load_tree(
        None if path is None else config_text(path, plain_text),
        source=path or NO_FILE,
        environ=os.environ,
        read_file=plain_text,
        overrides=options,
    )


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _json(facts: Any, indent: int | None = None) -> str:
    import json

    return json.dumps(facts, indent=indent)


def _header_value(text: str) -> str:
    """The field's value, of text that may be a whole line copied from a browser."""
    line = text.strip()
    return line[7:].strip() if line[:7].lower() == "cookie:" else line


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _lines(value)
        elif isinstance(value, list):
            for at, one in enumerate(value):
                yield f"{'' if at else name:<14}{_words(one)}"
        else:
            yield f"{name:<14}{_words(value)}"


def _words(value: Any) -> str:
    """A value for people; of several that belong together, those that are there."""
    if isinstance(value, tuple):
        return " ".join(str(one) for one in value if one is not None)
    return "-" if value is None else str(value)
