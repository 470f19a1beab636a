"""What runs during the end-to-end tests: npm, Next.js, the sidecar, small servers in threads."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.api import Api
from tests.ports import free_port

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
APPS: Final = HERE / "apps"
MODULES: Final = HERE / "node_modules"
NEXT: Final = MODULES / "next" / "dist" / "bin" / "next"
NEXT_APPS: Final = ("route-handler", "clean", "next-auth-4", "pages-router")
SECRET: Final = "a secret that only these tests know of, 64 bytes or about that"
START_TIMEOUT: Final = 60.0  # seconds until a process listens
STOP_TIMEOUT: Final = 20.0

# What child processes see of the environment: nothing that configures them by accident.
ENVIRON: Final = {
    name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
} | {"NEXT_TELEMETRY_DISABLED": "1", "NODE_ENV": "production"}


# -- building -------------------------------------------------------------------------------------


class BuildFailed(Exception):
    """npm or `next build` ended with an error; says which and what it wrote."""


@contextmanager
def _locked() -> Iterator[None]:
    """One test run at a time installs and builds in this tree."""
    with (HERE / ".build.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], folder: Path, timeout: float, **environ: str) -> str:
    """The command's output. Raises `BuildFailed` where it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=ENVIRON | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)} in {folder.name}: {done.stdout[-3000:]}")
    return done.stdout


def _digest(files: Sequence[Path]) -> str:
    """What identifies the contents of these files."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(HERE)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _once(stamp: Path, made_of: str, make: Callable[[], object]) -> None:
    """Makes it unless the stamp says that it was made of the very same."""
    if stamp.exists() and stamp.read_text() == made_of:
        return
    stamp.unlink(missing_ok=True)
    make()
    stamp.write_text(made_of)


def _install(npm: str) -> None:
    packages = [HERE / "package.json", HERE / "package-lock.json"]
    command = [npm, "ci", "--no-audit", "--no-fund"]
    # NODE_ENV=production would leave out nothing here, since all packages are dependencies.
    _once(MODULES / ".e2e", _digest(packages), lambda: _run(command, HERE, 300))


def _write_helper() -> None:
    """The clean app's `lib/sidecar.ts` is what the command prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "sidecar", "typescript"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    file = APPS / "clean" / "lib" / "sidecar.ts"
    if not file.exists() or file.read_text() != printed:
        file.write_text(printed)


def _build(node: str, app: str) -> None:
    folder = APPS / app
    made = {".next", "node_modules"}
    sources = [
        file
        for file in folder.rglob("*")
        if file.is_file() and not made & set(file.relative_to(folder).parts)
        if file.name not in {"next-env.d.ts", "tsconfig.tsbuildinfo"}
    ]
    made_of = _digest([*sources, HERE / "package-lock.json"])
    _once(
        folder / ".next" / "e2e",
        made_of,
        lambda: _run([node, str(NEXT), "build"], folder, 300, AUTH_SECRET=SECRET),
    )


def is_built(app: str) -> bool:
    """Whether the app has been built once; its sources may have changed since."""
    return (APPS / app / ".next" / "e2e").exists()


def build_one(node: str, npm: str, app: str) -> None:
    """Installs the packages, then builds this app alone. Raises `BuildFailed`."""
    with _locked():
        _install(npm)
        _write_helper()
        _build(node, app)


class Builds:
    """Installs the packages, then builds every app, two at a time; `log` tells how long it took."""

    def __init__(self, node: str, npm: str, log: Path) -> None:
        self._log: Final = log
        with _locked(), ThreadPoolExecutor(2) as pool:
            self._timed("npm ci", lambda: _install(npm))
            _write_helper()
            self._jobs: Final[dict[str, Future[None]]] = {
                app: pool.submit(self._timed, app, partial(_build, node, app)) for app in NEXT_APPS
            }

    def check(self, app: str) -> None:
        """Raises `BuildFailed` where the app could not be built."""
        self._jobs[app].result()

    def _timed(self, what: str, make: Callable[[], object]) -> None:
        begun = time.monotonic()
        make()
        with self._log.open("a") as log:
            log.write(f"{what}: {time.monotonic() - begun:.1f} s\n")


# -- running --------------------------------------------------------------------------------------


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, folder: Path, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on `port`, until the block ends; it writes to `log`."""
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command,
            cwd=folder,
            env=ENVIRON | environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    written = log.read_text(errors="replace")[-2000:]
    raise AssertionError(f"{log.name}: nothing listens on {port}: {written}")


class _Spa(SimpleHTTPRequestHandler):
    """Serves the plain app: its files, those of Workbox, and the page for any other path."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(APPS / "spa"))

    def translate_path(self, path: str) -> str:
        if path.startswith("/workbox/") and ".." not in path:
            return str(MODULES / path.removeprefix("/workbox/"))
        found = super().translate_path(path)
        return found if Path(found).is_file() else str(APPS / "spa" / "index.html")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving_spa(port: int) -> Iterator[None]:
    """The static server of the plain app, in a thread."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Spa) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Holder:
    """A relay of bytes in front of a frontend that can hold back the answers to one path."""

    def __init__(self, port: int, target: int) -> None:
        self.port: Final = port
        self.held: Final = threading.Event()  # an answer waits here
        self.path: str | None = None
        self._target: Final = target
        self._open: Final = threading.Event()

    @contextmanager
    def holding(self, path: str) -> Iterator[Callable[[], None]]:
        """Within the block, answers to `path` wait until the function given is called."""
        self.held.clear()
        self._open.clear()
        self.path = path
        try:
            yield self._open.set
        finally:
            self.path = None
            self._open.set()

    def accept(self, client: socket.socket) -> None:
        """Relays one connection until either side ends it."""
        server = socket.create_connection(("127.0.0.1", self._target))
        asked = threading.Event()  # the last request of this connection was for the held path
        back = threading.Thread(target=self._answers, args=(server, client, asked))
        back.start()
        with suppress(OSError):
            while data := client.recv(1 << 16):
                line = data.split(b"\r\n", 1)[0].decode("latin-1")
                if self.path is not None and f" {self.path} HTTP/1.1" in line:
                    asked.set()
                server.sendall(data)
        _end(server)
        back.join()
        client.close()
        server.close()

    def _answers(
        self, server: socket.socket, client: socket.socket, asked: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if asked.is_set():
                    self.held.set()
                    self._open.wait(30)
                    asked.clear()
                client.sendall(data)
        _end(client)


def _end(wire: socket.socket) -> None:
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


@contextmanager
def relaying(holder: Holder) -> Iterator[Holder]:
    """Runs the relay in threads."""
    listener = socket.create_server(("127.0.0.1", holder.port))
    wires: list[tuple[socket.socket, threading.Thread]] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                thread = threading.Thread(target=holder.accept, args=(client,))
                wires.append((client, thread))
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield holder
    finally:
        _end(listener)
        accepting.join()
        listener.close()
        for client, thread in wires:
            _end(client)
            thread.join()


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and 127.0.0.1: the files of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        # From Python 3.13 on, certificates must keep to RFC 5280 (4.2.1.2 and 4.2.1.3).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return cert_file, key_file


# -- a site: an app, the API, and the sidecar in front of both ------------------------------------


@dataclass(frozen=True)
class Variant:
    """Which site: an app, and what differs from the ordinary one."""

    app: str
    hold: str = "0s"  # bridge.hold
    tls: bool = False
    big_headers: bool = False  # Node.js takes heads of 64 KiB instead of 16
    relay: bool = False  # a `Holder` stands between sidecar and frontend
    workbox: bool = False  # its pages come through a service worker of npm's Workbox

    @property
    def name(self) -> str:
        """For files."""
        marks = {
            f"hold-{self.hold}": self.hold != "0s",
            "tls": self.tls,
            "big-headers": self.big_headers,
            "relay": self.relay,
            "workbox": self.workbox,
        }
        return "-".join([self.app, *(mark for mark, on in marks.items() if on)])


@dataclass(frozen=True)
class Site:
    """A running site, as browsers see it."""

    variant: Variant
    url: str
    log: Path
    holder: Holder | None = None

    @property
    def app(self) -> str:
        return self.variant.app


_API_ROUTES: Final = (
    {"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"},
    {"path": "/api/login", "kind": "api", "upstream": "api", "strip": "/api", "session": "none"},
)
_AUTH_ROUTE: Final = {"path": "/api/auth/", "kind": "page", "upstream": "frontend"}
_PAGE_ROUTE: Final = {"path": "/", "kind": "page", "upstream": "frontend"}

# The usual solution's own server sends a bearer, not the cookie; its browser calls /api/proxy/.
_PROXY_ROUTE: Final = {
    "path": "/api/proxy/",
    "kind": "api",
    "upstream": "api",
    "strip": "/api/proxy",
}
_BEARER_ROUTES: Final = (
    {**_API_ROUTES[0], "authorization": "session"},
    _API_ROUTES[1],
    _PROXY_ROUTE,
    _AUTH_ROUTE,
    _PAGE_ROUTE,
)

ROUTES: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "route-handler": _BEARER_ROUTES,
    "next-auth-4": _BEARER_ROUTES,
    "clean": (*_API_ROUTES, _AUTH_ROUTE, _PAGE_ROUTE),
    "spa": (*_API_ROUTES, _PAGE_ROUTE),
    "pages-router": (*_API_ROUTES, _PAGE_ROUTE),
}
SOURCES: Final[Mapping[str, Mapping[str, Any]]] = {
    "route-handler": {"type": "authjs", "secret": "${AUTH_SECRET}", "token": "accessToken"},
    "clean": {"type": "authjs", "secret": "${AUTH_SECRET}", "token": "accessToken"},
    "next-auth-4": {"type": "nextauth", "secret": "${AUTH_SECRET}", "token": "accessToken"},
    "spa": {"type": "cookie", "cookie": "access_token"},
    "pages-router": {"type": "cookie", "cookie": "access_token"},
}


def configuration(
    variant: Variant, port: int, api: str, frontend: str, tls: tuple[Path, Path] | None
) -> dict[str, Any]:
    """The sidecar's configuration file for a site."""
    config: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "drain": {"wait": "0s"},
        "admin": None,
        "upstreams": {"api": {"url": api}, "frontend": {"url": frontend}},
        "routes": list(ROUTES[variant.app]),
        "session": {"sources": [SOURCES[variant.app]]},
    }
    if variant.hold != "0s":
        config["bridge"] = {"hold": variant.hold}
    if tls is not None:
        config["tls"] = {"cert": str(tls[0]), "key": str(tls[1])}
    return config


@dataclass
class Sites:
    """Starts sites on demand; each one runs until `close`."""

    api: Api
    builds: Callable[[], Builds]  # called when the first app that must be built is wanted
    node: Callable[[], str]
    folder: Path  # of files that tests need
    logs: Path
    _sites: dict[Variant, Site] = field(default_factory=dict)
    _faults: dict[Variant, Exception] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __call__(self, variant: Variant) -> Site:
        """The running site of this kind. Raises, each time anew, what kept it from starting."""
        if variant in self._faults:
            raise self._faults[variant]
        if variant not in self._sites:
            with ExitStack() as stack:  # what was started goes again where the rest fails
                try:
                    self._sites[variant] = self._start(variant, stack)
                except Exception as fault:
                    self._faults[variant] = fault
                    raise
                self._stack.push(stack.pop_all())
        return self._sites[variant]

    def close(self) -> None:
        """Stops everything, newest first."""
        self._stack.close()

    def _start(self, variant: Variant, stack: ExitStack) -> Site:
        port, behind = free_port(), free_port()
        tls = None
        if variant.tls:
            folder = self.folder / variant.name
            folder.mkdir()
            tls = write_certificate(folder)
        url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        self._start_frontend(variant, url, behind, tls, stack)
        holder = None
        if variant.relay:
            holder = stack.enter_context(relaying(Holder(free_port(), behind)))
            behind = holder.port
        config = configuration(variant, port, self.api.url, f"http://127.0.0.1:{behind}", tls)
        file, log = self.folder / f"{variant.name}.json", self.logs / f"{variant.name}.sidecar.log"
        file.write_text(json.dumps(config, indent=2))
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        stack.enter_context(running(command, port, log, ROOT, AUTH_SECRET=SECRET))
        return Site(variant, url, log, holder)

    def _start_frontend(
        self,
        variant: Variant,
        url: str,
        port: int,
        tls: tuple[Path, Path] | None,
        stack: ExitStack,
    ) -> None:
        if variant.app == "spa":
            if variant.workbox:
                self.builds()  # the packages are there from then on
            stack.enter_context(serving_spa(port))
            return
        self.builds().check(variant.app)
        command = [self.node(), str(NEXT), "start", "-H", "127.0.0.1", "-p", str(port)]
        environ = {
            "AUTH_SECRET": SECRET,
            "NEXTAUTH_SECRET": SECRET,
            "AUTH_TRUST_HOST": "true",
            "SIDECAR_URL": url,
            "API_URL": f"{url}/api",
        }
        if tls is not None:
            environ["NODE_EXTRA_CA_CERTS"] = str(tls[0])
        if variant.big_headers:
            environ["NODE_OPTIONS"] = "--max-http-header-size=65536"
        log = self.logs / f"{variant.name}.next.log"
        stack.enter_context(running(command, port, log, APPS / variant.app, **environ))
