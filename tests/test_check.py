"""`sidecar check` and `health`: what they open, print and ask, and with which exit code."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from click.testing import CliRunner, Result

from sidecar.admin_call import connection_to
from sidecar.cli import cli
from tests.e2e.servers import write_certificate
from tests.net.store.conftest import make_certificates

if TYPE_CHECKING:
    from tests.conftest import StartCommand, Upstream

SECRET: Final = "a secret of the tests, 32 bytes or more"
CANARY: Final = "canary-of-a-secret-0123456789abcdef"

Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """`check(config, *options)` runs the command on that configuration."""
    monkeypatch.chdir(tmp_path)

    def run(config: dict[str, Any], *options: str, **environ: str) -> Result:
        whole = {"listen": "127.0.0.1:0", "admin": None, "secret": SECRET, **config}
        (tmp_path / "x.yaml").write_text(json.dumps(whole))
        return CliRunner().invoke(cli, ["check", "-c", "x.yaml", *options], env=environ)

    return run


def site(**more: Any) -> dict[str, Any]:
    return {"upstream": "http://127.0.0.1:1", **more}


def behind_tls(**tls: str) -> dict[str, Any]:
    return {
        "upstreams": {"api": {"url": "https://127.0.0.1:1", "tls": tls}},
        "routes": [{"path": "/", "kind": "page", "upstream": "api", "session": "none"}],
    }


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate with its key, another one's key, and files without use."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    cert, key = map(str, write_certificate(one))
    other = str(write_certificate(two)[1])
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    names = {"cert": cert, "key": key, "other": other, "nonsense": str(nonsense)}
    names["device"] = "/dev/null"
    return {**names, "folder": str(tmp_path), "missing": str(tmp_path / "missing")}


MISSING: Final = "no such file or directory"

UNUSABLE: Final = [
    ("tls", "missing", "key", "tls.cert: {0}: " + MISSING),
    ("tls", "cert", "missing", "tls.key: {1}: " + MISSING),
    ("tls", "nonsense", "key", "tls.cert: {0}: must contain a PEM certificate"),
    ("tls", "cert", "nonsense", "tls.key: {1}: must contain a PEM private key"),
    ("tls", "cert", "other", "tls.key: {1}: must be the private key of {0}"),
    ("tls", "folder", "key", "tls.cert: {0}: is a directory"),
    ("client ca", "missing", "", "tls.client_ca: {0}: " + MISSING),
    ("client ca", "nonsense", "", "tls.client_ca: {0}: must contain a PEM certificate"),
    ("client ca", "key", "", "tls.client_ca: {0}: must contain a PEM certificate"),
    ("second", "missing", "", "listen[1].tls.client_ca: {0}: " + MISSING),
    ("second cert", "nonsense", "key", "listen[1].tls.cert: {0}: must contain a PEM certificate"),
    ("second foreign", "", "", "listen[1]: 192.0.2.1:80: "),
    ("upstream", "cert", "other", "upstreams.api.tls.key: {1}: must be the private key of {0}"),
    ("upstream ca", "missing", "", "upstreams.api.tls.ca: {0}: " + MISSING),
    ("upstream ca", "nonsense", "", "upstreams.api.tls.ca: {0}: must contain a PEM certificate"),
    ("outbound", "missing", "", "outbound.ca: {0}: " + MISSING),
    ("store", "missing", "", "store.url: {0}/x.db: the directory {0} is missing"),
    ("store file", "nonsense", "", "store.url: {0}: must be a SQLite database; remove the file"),
    ("store file", "device", "", "store.url: {0}: must be a regular file"),
    ("oidc", "missing", "", "oidc.cert: {0}: " + MISSING),
    ("oidc", "nonsense", "", "oidc.cert: {0}: must be the certificate of `key`"),
    ("refresh", "missing", "", "refresh.cert: {0}: " + MISSING),
    ("refresh of oidc", "missing", "", "oidc.cert: {0}: " + MISSING),
    ("listen", "missing", "", "listen: {0}/x.sock: the directory {0} is missing"),
    ("listen file", "nonsense", "", "listen: {0}: must be a socket; remove the file"),
    ("admin", "missing", "", "admin: {0}/x.sock: the directory {0} is missing"),
    ("log", "missing", "", "log.target: {0}/x.log: the directory {0} is missing"),
    ("log file", "folder", "", "log.target: {0}: must be a regular file"),
    ("pages", "missing", "", "pages: {0}: " + MISSING),
    ("pages", "folder", "", "pages: {0}: must hold pages, such as error.html"),
    ("host", "", "", "listen: no-such-host.invalid:80: cannot be resolved"),
    ("foreign", "", "", "listen: 192.0.2.1:80: "),
]


def configuration(what: str, one: str, two: str, files: dict[str, str]) -> dict[str, Any]:
    good = {"cert": files["cert"], "key": files["key"]}
    second = {"address": "127.0.0.1:0", "tls": {**good, "client_ca": one}}
    client = {"client_id": "app", "auth": "tls", "cert": one, "key_file": files["key"]}
    oidc = {"issuer": "http://127.0.0.1:1", **client}
    renewed = [{"type": "cookie", "cookie": "a", "refresh_cookie": "b"}]
    return {
        "client ca": site(tls={**good, "client_ca": one}),
        "second": site(listen=["127.0.0.1:0", second]),
        "second cert": site(listen=[":0", {**second, "tls": {"cert": one, "key": two}}]),
        "second foreign": site(listen=["127.0.0.1:0", "192.0.2.1:80"]),
        "tls": site(tls={"cert": one, "key": two}),
        "upstream": behind_tls(cert=one, key=two),
        "upstream ca": behind_tls(ca=one),
        "log": site(log={"target": f"file://{one}/x.log"}),
        "log file": site(log={"target": f"file://{one}"}),
        "pages": site(pages=one),
        "outbound": site(outbound={"ca": one}),
        "store": site(store={"url": f"sqlite://{one}/x.db"}),
        "store file": site(store={"url": f"sqlite://{one}"}),
        "oidc": site(oidc=oidc),
        "refresh": site(
            session={"sources": renewed},
            refresh={"token_endpoint": "http://127.0.0.1:1/token", **client},
        ),
        "refresh of oidc": site(oidc=oidc, refresh={"leeway": "10s"}),
        "listen": site(listen=f"unix:{one}/x.sock"),
        "listen file": site(listen=f"unix:{one}"),
        "admin": site(admin=f"unix:{one}/x.sock"),
        "host": site(listen="no-such-host.invalid:80"),
        "foreign": site(listen="192.0.2.1:80"),
    }[what]


@pytest.mark.parametrize(("what", "one", "two", "told"), UNUSABLE)
def test_what_run_cannot_use_is_named_with_its_cause(
    *, check: Check, files: dict[str, str], what: str, one: str, two: str, told: str
) -> None:
    """The key, the file and the cause; and nothing is printed that looks like success."""
    paths = files.get(one, ""), files.get(two, "")
    result = check(configuration(what, *paths, files))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"x.yaml: {told.format(*paths)}" in result.stderr


@pytest.mark.parametrize(
    ("what", "key", "name"),
    [
        ("store", "store.url", "x.db"),
        ("listen", "listen", "x.sock"),
        ("admin", "admin", "x.sock"),
        ("log", "log.target", "x.log"),
    ],
)
def test_directory_that_this_user_may_not_enter_is_told(
    *,
    check: Check,
    files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    key: str,
    name: str,
) -> None:
    """As anything else that is missing, and not as a defect."""
    locked, stat = Path(files["folder"]) / "locked", Path.stat

    def look(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if locked in self.parents:  # as root, who runs the tests in a container, may enter all
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", look)
    result = check(configuration(what, str(locked / "in"), "", files))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"x.yaml: {key}: {locked}/in/{name}: permission denied\n"


@pytest.mark.parametrize("one", ["missing", "nonsense", "other"])
async def test_run_names_the_file_too(
    command: StartCommand, upstream: Upstream, files: dict[str, str], one: str
) -> None:
    at = await command({"tls": {"cert": files["cert"], "key": files[one]}})
    assert await at.exit_code() == 2
    assert f"sidecar: cannot start: tls.key: {files[one]}: " in at.stderr


def test_everything_that_is_missing_is_told_at_once(check: Check, files: dict[str, str]) -> None:
    missing = files["missing"]
    config = behind_tls(ca=missing) | {"tls": {"cert": missing, "key": missing}}
    assert len(check(config).stderr.splitlines()) == 2


def test_what_is_there_is_no_fault(check: Check, files: dict[str, str]) -> None:
    """And an address in use is none either: it may be this sidecar's own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        tls = {"cert": files["cert"], "key": files["key"]}
        store = {"url": f"sqlite://{files['folder']}/x.db"}
        result = check(site(tls=tls, listen=listen, store=store, outbound={"ca": files["cert"]}))
    assert result.exit_code == 0
    assert not Path(files["folder"], "x.db").exists()


def test_strict_takes_warnings_for_faults(check: Check) -> None:
    warned = site(trusted_proxies=["0.0.0.0/0"])
    assert check(warned).exit_code == 0
    assert check(warned, "--strict").exit_code == 2
    assert check(site(), "--strict").exit_code == 0


OIDC: Final = {
    "issuer": "https://idp.example.com",
    "client_id": "app",
    "client_secret": CANARY,
    "path": "/sign",
}


@pytest.mark.parametrize(
    ("more", "home"),
    [
        ({}, "https://app.example.com/"),
        ({"logout": {"redirect_to": "/bye"}}, "https://app.example.com/bye"),
    ],
)
def test_urls_to_register_at_the_provider(check: Check, more: dict[str, Any], home: str) -> None:
    config = site(oidc=OIDC, public_url="https://app.example.com", **more)
    register = json.loads(check(config, "--json").stdout)["register"]
    assert register == {
        "redirect_uri": "https://app.example.com/sign/callback",
        "post_logout_redirect_uri": home,
        "backchannel_logout_uri": "https://app.example.com/sign/backchannel-logout",
    }
    lines = check(config).stdout.splitlines()
    for name, url in register.items():
        assert any(line.split() == [name, url] for line in lines)


def test_json_tells_faults_with_their_place(check: Check) -> None:
    said = json.loads((result := check({"upstream": "ftp://a"}, "--json")).stdout)
    assert (result.exit_code, result.stderr, said["ok"]) == (2, "", False)
    (fault,) = said["faults"]
    assert (fault["path"], fault["line"], fault["source"]) == ("upstream", 1, "x.yaml")
    whole = json.loads(check(site(), "--json").stdout)
    assert (whole["ok"], whole["faults"], whole["routes"][0]["upstream"]) == (True, [], "api")


@pytest.mark.parametrize("number", ["1e400", "-1.0e999", ".inf", ".nan"])
def test_number_that_json_has_not_is_a_text(check: Check, tmp_path: Path, number: str) -> None:
    """What is printed is JSON, and so is what goes to a refresh endpoint."""
    (tmp_path / "y.yaml").write_text(
        f"upstream: http://a\nunauthorized: {{match: [{{path: code, equals: {number}}}]}}\n"
    )
    result = check(site(), "-c", "y.yaml", "--json", "--effective")
    effective = msgspec.json.decode(result.stdout)["effective"]  # stricter than Python's own
    (equals,) = [one for one in effective if one["key"] == "unauthorized.match[0].equals"]
    assert equals["value"] == number


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("binary", "must be UTF-8 text"),
    ],
)
def test_json_tells_of_a_file_that_cannot_be_read(
    *, check: Check, tmp_path: Path, name: str, problem: str
) -> None:
    """A pipeline reads one object, whatever is wrong."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    result = check(site(), "-c", name, "--json")
    (fault,) = json.loads(result.stdout)["faults"]
    assert (result.exit_code, result.stderr) == (2, "")
    assert (fault["path"], fault["line"], fault["source"]) == ("", None, name)
    assert (fault["problem"], fault["remedy"]) == (problem, "use -c to name another file")
    assert fault["text"] == f"{name}: {problem}; use -c to name another file"


def test_effective_has_every_key_with_its_origin_and_no_secret(check: Check) -> None:
    """Values as users write them; a secret is its length."""
    config = site(
        oidc=OIDC,
        public_url="https://app.example.com",
        limits={"header": "32KiB"},
        store={"url": f"redis://:{CANARY}@127.0.0.1:1"},
        logout={
            "hooks": [{"url": f"http://h/{CANARY}?{CANARY}", "headers": {"Authorization": CANARY}}]
        },
    )
    options = ("--effective", "--json")
    environ = {"SIDECAR_LOG__LEVEL": "debug", "AUTH_SECRET": CANARY}
    result = check(config, *options, **environ)
    said = {one["key"]: one for one in json.loads(result.stdout)["effective"]}

    def of(key: str) -> tuple[Any, str]:
        return said[key]["value"], said[key]["origin"]

    assert of("limits.header") == ("32KiB", "x.yaml:1")
    assert of("limits.client_idle") == ("75s", "default")
    assert of("log.level") == ("debug", "SIDECAR_LOG__LEVEL")
    assert of("admin") == (None, "x.yaml:1")
    assert of("logout.redirect_to") == ("/sign/login", "derived")
    assert of("routes[0].path") == ("/", "derived")
    assert of("oidc.client_secret") == (f"({len(CANARY)} characters)", "x.yaml:1")
    assert of("session.sources[0].secret") == ([f"({len(CANARY)} characters)"], "derived")
    assert "canary" not in result.output
    assert "canary" not in check(config, "--effective", "--probe", **environ).output
    request = {"url": f"http://r/x?key={CANARY}", "json": {"key": [CANARY, "{refresh_token}"]}}
    source = {"type": "authjs", "secret": CANARY, "refresh_token": "refreshToken"}
    config = site(refresh={"type": "http", "request": request}, session={"sources": [source]})
    result = check(config, "--effective", "--probe", **environ)
    assert (result.exit_code, "canary" in result.output) == (1, False)


def test_probe_asks_once_and_tells_the_cause(check: Check) -> None:
    """What does not answer is exit code 1: the configuration itself has no fault."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = check({"upstream": there}, "--probe")
        assert result.exit_code == 0
        assert [line.split() for line in result.stdout.splitlines()][-1] == [
            *("upstream", "api", there, "ok")
        ]
    result = check({"upstream": "unix:/nowhere/app.sock:/base"}, "--probe", "--json")
    (asked,) = json.loads(result.stdout)["probes"]
    assert (asked["address"], asked["trouble"]) == (
        "unix:/nowhere/app.sock",
        "no such file or directory",
    )
    config = {"upstream": there, "store": {"url": "redis://127.0.0.1:1"}}
    provider = {"issuer": "http://127.0.0.1:1", "client_id": "app", "client_secret": CANARY}
    result = check(config | {"oidc": provider}, "--probe", "--json")
    assert result.exit_code == 1
    probes = {one["what"]: one for one in json.loads(result.stdout)["probes"]}
    assert probes["upstream api"]["trouble"] == "connection refused"
    assert "connection refused" in probes["provider"]["trouble"]
    assert "127.0.0.1" in probes["store"]["trouble"]


async def test_health_asks_the_running_sidecar(
    command: StartCommand, upstream: Upstream, tmp_path: Path
) -> None:
    at = await command({"upstreams": {"api": {"url": upstream.url, "ready": True}}} | ROUTES)
    arguments = ["-c", str(tmp_path / f"{at.port}.yaml")]

    def health(*options: str) -> int:
        return CliRunner().invoke(cli, ["health", *arguments, *options]).exit_code

    async def in_thread(*options: str) -> int:
        return await asyncio.to_thread(health, *options)

    assert (await in_thread(), await in_thread("--ready")) == (0, 0)
    await upstream.stop()
    assert (await in_thread(), await in_thread("--ready")) == (0, 1)
    at.terminate()
    await at.exit_code()
    assert (await in_thread(), await in_thread("--ready")) == (1, 1)


async def test_health_of_an_address_reads_no_configuration(
    command: StartCommand, upstream: Upstream, tmp_path: Path
) -> None:
    """A probe must not fail, and so end the process, since its file has been broken meanwhile."""
    at = await command({"upstreams": {"api": {"url": upstream.url, "ready": True}}} | ROUTES)
    broken = tmp_path / "broken.yaml"
    broken.write_text("listen: [")

    async def health(*options: str) -> Result:
        command = ["health", "-c", str(broken), *options]
        return await asyncio.to_thread(CliRunner().invoke, cli, command)

    for options in ([], ["--ready"]):
        assert (await health("--admin", f"127.0.0.1:{at.admin}", *options)).exit_code == 0
    assert (await health()).exit_code == 2
    at.terminate()
    await at.exit_code()
    gone = await health("--admin", f"127.0.0.1:{at.admin}")
    assert (gone.exit_code, "127.0.0.1" in gone.stderr) == (1, True)


@pytest.mark.parametrize("address", ["9090", "127.0.0.1", "::1:9090", "127.0.0.1:99999", "unix:x"])
def test_health_says_how_an_address_must_be_written(address: str) -> None:
    """As the key `admin` of the configuration."""
    got = CliRunner().invoke(cli, ["health", "--admin", address])
    assert got.exit_code == 2
    assert "must be host:port, [v6]:port or unix:/path" in got.stderr


def test_health_asks_a_unix_socket(tmp_path: Path) -> None:
    """An admin listener on `unix:/path` is asked there."""
    path = tmp_path / "admin"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)

        def answer() -> bytes:
            client, _ = listener.accept()
            with client:
                head = client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return head

        with ThreadPoolExecutor() as pool:
            asked = pool.submit(answer)
            got = CliRunner().invoke(cli, ["health", "--ready", "--admin", f"unix:{path}"])
            assert asked.result(10).startswith(b"GET /readyz ")
    assert got.exit_code == 0


@pytest.mark.parametrize(("seconds", "verb"), [(3600.0, "ends"), (-60.0, "ended")])
def test_certificates_and_authorities_that_end_soon_are_told(
    check: Check, tmp_path: Path, seconds: float, verb: str
) -> None:
    """Each with its key; those that last are not."""
    late = make_certificates(tmp_path / "late", ends_in=seconds)
    lasting = make_certificates(tmp_path / "lasting", ends_in=100 * 86400.0)
    both = tmp_path / "both.pem"
    both.write_bytes(lasting.ca.read_bytes() + late.ca.read_bytes())
    for shown, ca, told in (
        (late, lasting.ca, [f"tls.cert: {late.cert}"]),
        (lasting, both, [f"tls.client_ca: {both}"]),
        (lasting, lasting.ca, []),
    ):
        tls = {"cert": str(shown.cert), "key": str(shown.key), "client_ca": str(ca)}
        lines = check(site(tls=tls)).output.splitlines()
        found = [line for line in lines if "the certificate en" in line]
        assert len(found) == len(told)
        for line, start in zip(found, told, strict=True):
            assert f"{start}: the certificate {verb} on " in line


ROUTES: Final = {"routes": [{"path": "/", "kind": "page", "upstream": "api"}]}


@pytest.mark.parametrize(
    ("admin", "place"),
    [
        (":9090", ("127.0.0.1", 9090)),
        ("*:9090", ("127.0.0.1", 9090)),
        ("[::]:9090", ("127.0.0.1", 9090)),
        ("0.0.0.0:9090", ("127.0.0.1", 9090)),
        ("[::1]:9090", ("::1", 9090)),
        ("localhost:9090", ("localhost", 9090)),
    ],
)
def test_health_reaches_every_form_of_an_address(admin: str, place: tuple[str, int]) -> None:
    """Those of all addresses by the loopback interface, which is among them."""
    asked = connection_to(admin)
    assert (asked.host, asked.port) == place


def test_health_reaches_a_unix_socket_whose_mode_is_written(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        asked = connection_to(f"unix:{path}|0660")
        asked.connect()
        asked.close()


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n", b"x" * 200_000]
)
def test_health_is_bad_where_no_http_is_spoken(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:

        def answer() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):  # of more than anybody reads
                client.recv(4096)
                client.sendall(said)

        asked = pool.submit(answer)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        got = CliRunner().invoke(cli, ["health", "--admin", address])
        asked.result(10)
    assert (got.exit_code, got.stderr) == (1, f"{address}: the answer is not HTTP\n")


def test_json_tells_each_finding_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults of the file, of what it names, and warnings: each with key, line, cause and remedy."""
    monkeypatch.chdir(tmp_path)

    def findings(text: str) -> list[dict[str, Any]]:
        (tmp_path / "x.yaml").write_text(text)
        said = CliRunner().invoke(cli, ["check", "-c", "x.yaml", "--json"]).stdout
        found: list[dict[str, Any]] = json.loads(said)["findings"]
        return found

    text = (
        "upstream: http://a\n"
        "session:\n"
        "  sources:\n"
        "  - {type: iron-session, cookie: app, password: short}\n"
        "tls:\n"
        "  cert: /missing.pem\n"
        "  key: /missing.key\n"
    )
    found = {one["path"]: one for one in findings(text)}
    warning, fault = found["session.sources[0].password"], found["tls.cert"]
    assert (warning["severity"], warning["line"], warning["source"]) == ("warning", 4, "x.yaml")
    assert warning["problem"] == "should have at least 32 bytes"
    assert "an attacker who guesses it" in warning["remedy"]
    assert (fault["severity"], fault["line"], fault["source"]) == ("fault", 6, "x.yaml")
    assert "/missing.pem" in fault["problem"]
    (wrong,) = findings("upstream: ftp://a\n")
    assert (wrong["severity"], wrong["path"], wrong["line"]) == ("fault", "upstream", 1)
    assert wrong["problem"]
    assert wrong["remedy"]


def test_json_names_the_variable_behind_a_warning(check: Check) -> None:
    said = json.loads(check(site(), "--json", SIDECAR_CORE_DUMPS="true").stdout)
    (one,) = (one for one in said["findings"] if one["path"] == "core_dumps")
    assert (one["source"], one["line"]) == ("SIDECAR_CORE_DUMPS", None)


@pytest.mark.parametrize("options", [(), ("--json",), ("--effective",)])
def test_strict_is_two_for_a_warning_in_each_form(check: Check, options: tuple[str, ...]) -> None:
    assert check(site(core_dumps=True), *options).exit_code == 0
    assert check(site(core_dumps=True), "--strict", *options).exit_code == 2
