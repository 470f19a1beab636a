"""What `sidecar typescript` prints: by the real compiler, and in Node.js against a real sidecar."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.errors import ProxyError
from sidecar.frontend import typescript
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from tests.conftest import Clients, Embedded, Start, Upstream

    Node: TypeAlias = Callable[..., Awaitable[Any]]

HERE = Path(__file__).parent
DOCUMENT_TEXT = (HERE.parent.parent / "docs" / "frontends.md").read_text(encoding="utf-8")
_IMPORTED = re.compile(r'from "([^"]+)"')
COMPILERS = ["typescript", "typescript-5"]
PATIENCE = 30.0  # seconds that one script may take

SESSION = "theme=dark; access_token=tok"
DOCUMENT = ["Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"]

# What every script begins with: the two sides, and a redirect that remembers.
PRELUDE = """
import { createFetchApi, isSessionError, isSidecarError } from "./sidecar.js";
const { base, cookie, ...given } = JSON.parse(process.argv[2]);
const redirects = [];
const redirect = (url) => { redirects.push(url); };
const server = (more) => createFetchApi({ baseUrl: `${base}/api`, cookie: () => cookie, ...more });
const inBrowser = () => { globalThis.document = {}; };
const asBrowser = (url, init) => { // Node.js has no cookie jar
  init.headers.set("cookie", cookie);
  return fetch(url, init);
};
const print = (value) => console.log(JSON.stringify(value));
"""


@pytest.fixture(scope="session")
def project(npm_project: Callable[..., Path]) -> Path:
    """A folder with the printed file, its use, and the compilers."""
    folder = npm_project(HERE)
    (folder / "sidecar.ts").write_text(typescript(), encoding="utf-8")
    return folder


def compiled(project: Path, node: str, compiler: str, *options: str) -> Path:
    """The folder of what the compiler makes of the project; fails with what it finds fault with."""
    out = project / f"out-{compiler}"
    command = [node, f"node_modules/{compiler}/bin/tsc", "--outDir", str(out), *options]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    return out


@pytest.fixture(scope="session")
def library(project: Path, require_program: Callable[[str], str]) -> Path:
    """The folder of the compiled file."""
    return compiled(project, require_program("node"), COMPILERS[0])


@pytest.fixture
def node(library: Path, require_program: Callable[[str], str], tmp_path: Path) -> Node:
    """`await node(script, **given)` runs a script after `PRELUDE`; returns what it prints."""
    program = require_program("node")

    async def run(script: str, at: Embedded | None = None, /, **given: Any) -> Any:
        shutil.copy(library / "sidecar.js", tmp_path)
        (tmp_path / "package.json").write_text('{"type":"module"}')
        (tmp_path / "script.js").write_text(PRELUDE + script)
        base = None if at is None else f"http://127.0.0.1:{at.port}"
        argument = json.dumps({"base": base, "cookie": SESSION, **given})
        process = await asyncio.create_subprocess_exec(
            program,
            str(tmp_path / "script.js"),
            argument,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert (process.returncode, errors) == (0, b"")
        return json.loads(output)

    return run


def site(**more: Any) -> dict[str, Any]:
    """An API under /api, with a route for each rule; the pages play no part."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    routes = [
        {"path": "/api", **api},
        {"path": "/api/soft", "on_unauthorized": "envelope", **api},
        {"path": "/api/raw", "envelope": False, **api},
    ]
    return {"routes": routes, **more}


def envelope(**members: Any) -> dict[str, Any]:
    """A success with some members replaced; a failure where `errorData` or `isError` says so."""
    basis = {"isError": False, "message": None, "data": None, "status": 200, "errorData": None}
    return basis | members


def unauthorized(upstream: Upstream) -> bytes:
    return upstream.reply(b'{"message":"no"}', status="401 Unauthorized")


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    """A sidecar in front of the upstream."""
    return await sidecar(site(upstreams={"main": {"url": upstream.url}}))


# -- types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("module", [[], ["--module", "nodenext", "--moduleResolution", "nodenext"]])
def test_types_hold_under_every_strict_option(
    project: Path, require_program: Callable[[str], str], compiler: str, module: list[str]
) -> None:
    """What `usage.ts` expects, errors included, for bundlers and for Node.js."""
    compiled(project, require_program("node"), compiler, "--noEmit", *module)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "options",
    [
        ["--lib", "ES2022", "--types", "node", "--skipLibCheck"],
        ["--lib", "ES2022,DOM", "--types", "", "--declaration", "--isolatedDeclarations"],
    ],
    ids=["no DOM", "isolated declarations"],
)
def test_it_compiles_by_itself(
    project: Path, require_program: Callable[[str], str], compiler: str, options: list[str]
) -> None:
    """In a project for Node.js, whose types know no document; and for a bundler of declarations."""
    folder = project / "alone"
    folder.mkdir(exist_ok=True)
    shutil.copy(project / "sidecar.ts", folder)
    flags = [option for option in options if option]
    config = {"extends": "../tsconfig.json", "files": ["sidecar.ts"], "compilerOptions": {}}
    if "" in options:
        flags.remove("--types")
    (folder / "tsconfig.json").write_text(json.dumps(config))
    compiled(project, require_program("node"), compiler, *flags, "-p", "alone")


def test_the_compiler_is_asked(project: Path, require_program: Callable[[str], str]) -> None:
    """A use that is wrong does not compile; else the tests above would say nothing."""
    (project / "wrong.ts").write_text(
        'import { fetchApi } from "./sidecar.js";\n'
        'export const name: string = (await fetchApi<{ name: string }>("/me")).data.name;\n'
    )
    done = subprocess.run(
        [
            *(require_program("node"), "node_modules/typescript/bin/tsc", "--noEmit", "--strict"),
            *("--ignoreConfig", "--target", "es2022", "--module", "nodenext", "wrong.ts"),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "error TS2531" in done.stdout  # possibly null


def test_imports_nothing() -> None:
    """It can be copied into any app."""
    assert "import" not in typescript()
    assert "require(" not in typescript()


def test_knows_every_code_of_the_sidecar() -> None:
    def codes(error: type[ProxyError]) -> set[str]:
        return {error.code}.union(*map(codes, error.__subclasses__()))

    assert "session_expired" in codes(ProxyError)
    assert {code for code in codes(ProxyError) if f'"{code}"' not in typescript()} == set()


# -- docs/frontends.md -----------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    """The bodies of the document's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT_TEXT, re.MULTILINE | re.DOTALL)


def test_documented_code_compiles(project: Path, require_program: Callable[[str], str]) -> None:
    """What needs no framework."""
    plain = [text for text in blocks("ts") if set(_IMPORTED.findall(text)) <= {"./sidecar"}]
    assert len(plain) >= 3
    folder = project / "document"
    folder.mkdir(exist_ok=True)
    shutil.copy(project / "sidecar.ts", folder)
    for number, text in enumerate(plain):
        (folder / f"block{number}.ts").write_text(text, encoding="utf-8")
    config = {"extends": "../tsconfig.json", "files": [], "include": ["*.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    compiled(project, require_program("node"), COMPILERS[0], "--noEmit", "-p", "document")


def test_every_option_is_documented() -> None:
    """And none that does not exist."""
    interface = typescript().partition("interface FetchApiOptions {")[2].partition("\n}")[0]
    options = set(re.findall(r"^  (\w+)\?:", interface, re.MULTILINE))
    assert options
    assert set(re.findall(r"^\| `(\w+)` \|", DOCUMENT_TEXT, re.MULTILINE)) == options


# -- answers ---------------------------------------------------------------------------------------


async def test_success(node: Node, at: Embedded, upstream: Upstream) -> None:
    """The token is injected, cookies go along, and nothing is asked for but JSON."""
    upstream.answers(upstream.reply(b'{"message":"hi","data":{"name":"Ann"}}'))
    told = await node('print(await server()("/me?a=%2F"));', at)
    assert told == envelope(message="hi", data={"name": "Ann"})
    request = upstream.last
    assert request.line == "GET /me?a=%2F HTTP/1.1"
    assert request.get("Authorization") == "Bearer tok"
    assert request.get("Cookie") == "theme=dark"
    assert request.get("Accept") == "application/json"


async def test_json_is_sent(node: Node, at: Embedded, upstream: Upstream) -> None:
    """By POST unless told otherwise; the caller's own header fields win."""
    await node(
        """
        const json = { name: "Änn", no: undefined };
        await server()("/users", { json });
        await server()("users/1", { json: null, method: "PUT" });
        await server()("/users/1", { json, method: "PATCH",
          headers: { "Content-Type": "application/merge-patch+json", Accept: "a/b", "X-A": "1" } });
        await server()("/raw", { method: "POST", body: "plain" });
        print(null);
        """,
        at,
    )
    sent = [(r.method, r.target, r.get("Content-Type"), r.body) for r in upstream.requests]
    body = '{"name":"Änn"}'.encode()
    assert sent == [
        ("POST", "/users", "application/json", body),
        ("PUT", "/users/1", "application/json", b"null"),
        ("PATCH", "/users/1", "application/merge-patch+json", body),
        ("POST", "/raw", "text/plain;charset=UTF-8", b"plain"),
    ]
    patch = upstream.requests[2]
    assert (patch.get("Accept"), patch.get("X-A")) == ("a/b", "1")


async def test_error_of_the_api(node: Node, at: Embedded, upstream: Upstream) -> None:
    body = b'{"message":"bad name","data":{"fields":["name"]}}'
    upstream.answers(upstream.reply(body, status="422 Unprocessable Content"))
    told = await node(
        'const r = await server({ redirect })("/users", { json: {} });'
        "print([r, isSidecarError(r.errorData), isSessionError(r), redirects]);",
        at,
    )
    failure = envelope(isError=True, message="bad name", status=422, errorData={"fields": ["name"]})
    assert told == [failure, False, False, []]


async def test_error_of_the_sidecar(node: Node, at: Embedded, upstream: Upstream) -> None:
    """Its code tells what it is."""
    told = await node(
        'const r = await server({ baseUrl: base, redirect })("/nowhere", { json: {} });'
        "print([r.status, r.errorData.code, typeof r.errorData.requestId,"
        " isSidecarError(r.errorData), isSessionError(r), redirects]);",
        at,
    )
    assert told == [404, "no_route", "string", True, False, []]
    assert upstream.requests == []


async def test_answers_without_a_body(node: Node, at: Embedded, upstream: Upstream) -> None:
    """A success has null as its data; an error still says that it is one."""
    upstream.answers(
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        upstream.reply(type=None),
        upstream.reply(b'{"a":1}'),
        upstream.reply(b'{"a":1}', status="404 Not Found"),
    )
    told = await node(
        """
        const head = { method: "HEAD" };
        const answers = [];
        for (const init of [{}, {}, {}, head, head]) answers.push(await server()("/me", init));
        print(answers);
        """,
        at,
    )
    assert told == [
        envelope(status=204),
        envelope(status=205),
        envelope(),
        envelope(),
        envelope(isError=True, status=404, message="Not Found"),
    ]


async def test_answers_that_are_no_envelope(node: Node, at: Embedded, upstream: Upstream) -> None:
    """JSON is taken as it is, text only where it is no error; broken JSON is one."""
    page = "text/html"
    upstream.answers(
        upstream.reply(b'[{"a":1}]'),
        upstream.reply(b'{"type":"about:blank"}', status="409 Conflict", type="a/problem+json"),
        upstream.reply(b"42", type="text/plain"),
        upstream.reply(b"<p>Oops</p>", status="500 Internal Server Error", type=page),
        upstream.reply(b'{"a":'),
    )
    told = await node(
        'const all = []; for (let i = 0; i < 5; i++) all.push(await server()("/raw"));print(all);',
        at,
    )
    foreign = {"code": "not_an_envelope"}
    broken = envelope(isError=True, status=500, errorData=foreign)
    assert told == [
        envelope(data=[{"a": 1}]),
        envelope(isError=True, message="Conflict", status=409, errorData={"type": "about:blank"}),
        envelope(data="42"),
        {**broken, "message": "Internal Server Error"},
        {**broken, "message": "OK", "status": 200},
    ]


# -- no answer -------------------------------------------------------------------------------------


async def test_network_failure(node: Node, at: Embedded, upstream: Upstream) -> None:
    """Nobody listens, or the answer breaks off: the message says which, as `fetch` does not."""
    nobody = free_port()
    upstream.answers(
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nab", "reset"]
    )
    told = await node(
        """
        const all = [];
        for (const baseUrl of [`${base}/api`, ...["127.0.0.1", "localhost"].map(
          (host) => `http://${host}:${given.nobody}/api`)]) {
          const r = await server({ baseUrl })("/me");
          all.push([r, r.errorData.cause instanceof Error, r.errorData.cause.cause?.code]);
        }
        print(all);
        """,
        at,
        nobody=nobody,
    )
    for failure, is_kept, _ in told:
        assert failure == envelope(
            isError=True,
            message=failure["message"],
            status=0,
            errorData={"code": "network_error"},
        )
        assert is_kept
    messages = [failure["message"] for failure, *_ in told]
    assert messages[1] == f"fetch failed: connect ECONNREFUSED 127.0.0.1:{nobody}"
    assert "ECONNREFUSED" in messages[2]
    assert told[1][2] == "ECONNREFUSED"


async def test_what_has_a_body_is_posted(node: Node, at: Embedded, upstream: Upstream) -> None:
    """`fetch` refuses a GET with one."""
    await node(
        """
        const form = new FormData();
        form.set("a", "1");
        await server()("/form", { body: form });
        await server()("/form", { body: new URLSearchParams("a=1"), method: "PUT" });
        await server()("/text", { body: "" });
        await server()("/none", { body: null });
        await server()("/none", { body: undefined });
        print(null);
        """,
        at,
    )
    sent = [(r.method, r.target, (r.get("Content-Type") or "")[:19]) for r in upstream.requests]
    assert sent == [
        ("POST", "/form", "multipart/form-data"),
        ("PUT", "/form", "application/x-www-f"),
        ("POST", "/text", "text/plain;charset="),
        ("GET", "/none", ""),
        ("GET", "/none", ""),
    ]
    assert b'name="a"' in upstream.requests[0].body


async def test_abort(node: Node, at: Embedded, upstream: Upstream) -> None:
    """By a time limit, before the head and within the body; by the caller, with a reason."""
    upstream.answers(
        ["hang"],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nab", "hang"],
        ["hang"],
    )
    told = await node(
        """
        const controller = new AbortController();
        controller.abort("enough");
        const late = new AbortController();
        setTimeout(() => late.abort(), 900);
        const limits = [AbortSignal.timeout(200), AbortSignal.timeout(500)];
        const signals = [...limits, AbortSignal.any([late.signal]), controller.signal];
        const all = [];
        for (const signal of signals) all.push(await server()("/me", { signal }));
        print(all);
        """,
        at,
    )
    codes = ["timed_out", "timed_out", "aborted", "aborted"]
    assert [(one["status"], one["errorData"]["code"]) for one in told] == [
        (0, one) for one in codes
    ]
    assert told[3]["message"] == "enough"


async def test_what_frameworks_throw_gets_through(node: Node) -> None:
    """Errors with a digest (Next.js) and thrown redirects (SvelteKit), from `fetch` or `cookie`."""
    told = await node(
        """
        const dynamic = Object.assign(new Error("dynamic"), { digest: "DYNAMIC_SERVER_USAGE" });
        const all = [];
        for (const thrown of [dynamic, { status: 303, location: "/login" }]) {
          const rejecting = () => Promise.reject(thrown);
          for (const options of [{ fetch: rejecting }, { cookie: rejecting }]) {
            const caught = await server(options)("/me").catch((error) => error);
            all.push(caught === thrown);
          }
        }
        print(all);
        """
    )
    assert told == [True] * 4


# -- the session's end -----------------------------------------------------------------------------


async def test_server_redirects_to_logout_with_the_ticket(
    node: Node, at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """The document that follows it is logged out; one with a newer session is left alone."""
    upstream.answers(unauthorized(upstream))
    r, redirects = await node(
        'const r = await server({ redirect })("/me"); print([r, redirects]);', at
    )
    assert (r["isError"], r["status"], r["data"]) == (True, 401, None)
    assert r["errorData"]["code"] == "session_expired"
    assert r["errorData"]["loginUrl"] == "/login"
    (target,) = redirects
    path, ticket = target.split("?ticket=")
    assert path == "/api/logout"
    assert len(ticket) > 30

    newer = await (await client(at)).get(target, "Cookie: access_token=new", *DOCUMENT)
    assert (newer.status, newer.get("Location")) == (303, "/")
    assert newer.all("Set-Cookie") == []
    same = await (await client(at)).get(target, f"Cookie: {SESSION}", *DOCUMENT)
    assert (same.status, same.get("Location")) == (303, "/login")
    assert any(line.startswith("access_token=;") for line in same.all("Set-Cookie"))


async def test_redirect_that_throws_gets_through(
    node: Node, at: Embedded, upstream: Upstream
) -> None:
    """As those of Next.js and SvelteKit do; also later, from a promise."""
    upstream.answers(unauthorized(upstream))
    told = await node(
        """
        const thrown = new Error("NEXT_REDIRECT");
        const all = [];
        for (const redirect of [() => { throw thrown; }, async () => { throw thrown; }]) {
          const caught = await server({ redirect })("/me").catch((error) => error);
          all.push(caught === thrown);
        }
        print(all);
        """,
        at,
    )
    assert told == [True, True]


async def test_post_whose_session_has_died(node: Node, at: Embedded, upstream: Upstream) -> None:
    """Ends in the same answer, without a redirect where none was given."""
    upstream.answers(unauthorized(upstream))
    told = await node(
        'const r = await server()("/users", { json: {} });'
        "print([r.errorData.code, isSessionError(r), isSidecarError(r.errorData)]);",
        at,
    )
    assert told == ["session_expired", True, True]


async def test_browser_redirects_to_the_login(node: Node, at: Embedded, upstream: Upstream) -> None:
    """There, the answer has expired the cookies already."""
    upstream.answers(unauthorized(upstream))
    told = await node(
        """
        inBrowser();
        const api = createFetchApi({ baseUrl: `${base}/api`, fetch: asBrowser, redirect });
        const r = await api("/users", { json: {} });
        print([r.errorData.code, redirects]);
        """,
        at,
    )
    assert told == ["session_expired", ["/login"]]


async def test_session_that_dies_without_a_ticket(
    node: Node, at: Embedded, upstream: Upstream
) -> None:
    """Where the route answers by envelope, cookies are still there: logout it is, on both sides."""
    upstream.default = unauthorized(upstream)
    told = await node(
        """
        const r = await server({ redirect })("/soft?ticket=the-callers-own");
        await server({ redirect, logoutUrl: "/bye" })("/soft");
        inBrowser();
        await createFetchApi({ baseUrl: `${base}/api`, fetch: asBrowser, redirect })("/soft");
        print([r.errorData.code, redirects]);
        """,
        at,
    )
    assert told == ["token_rejected", ["/api/logout", "/bye", "/api/logout"]]


async def test_401_that_ends_no_session(
    node: Node, at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """A prefetch, a ticket for another session, the API's own 401, and what is no 401 at all."""
    upstream.answers(unauthorized(upstream))
    refused = await (await client(at)).get("/api/me", "Cookie: access_token=old")
    ticket = (refused.get("Location") or "").partition("?")[2]
    upstream.answers(
        unauthorized(upstream),
        upstream.reply(
            b'{"code":"step_up"}', 'WWW-Authenticate: DPoP error="x"', status="401 Unauthorized"
        ),
        upstream.reply(b'{"code":"session_expired"}', status="403 Forbidden"),
    )
    told = await node(
        """
        const api = server({ redirect });
        const all = [
          await api("/me", { headers: { Purpose: "prefetch" } }),
          await api(`/logout?${given.ticket}`),
          await api("/me"),
          await api("/me"),
        ];
        print([all.map((r) => [r.status, r.errorData.code, isSessionError(r)]), redirects]);
        """,
        at,
        ticket=ticket,
    )
    codes = ["prefetch_unauthenticated", "session_changed", "step_up"]
    expected = [[401, code, False] for code in codes]
    assert told == [[*expected, [403, "session_expired", False]], []]


async def test_redirects_stay_where_they_belong(node: Node) -> None:
    """Whatever an answer says: a server's on this origin, a browser's never to a script."""
    told = await node(
        """
        const answer = (errorData, status = 401) => () => Promise.resolve(Response.json(
          { isError: true, message: "", data: null, status: 401, errorData }, { status }));
        const named = (logoutUrl, loginUrl) =>
          answer({ code: "session_expired", logoutUrl, loginUrl });
        const urls = ["//evil.example", "/\\\\evil.example", "https://evil.example", "/bye?on=x"];
        for (const url of urls) await server({ redirect, fetch: named(url, url) })("/me");
        const logoutUrl = "https://app.example/bye";
        await server({ redirect, fetch: named("/bye"), logoutUrl })("/me");
        await server({ redirect, fetch: answer({ code: "session_expired" }, 200) })("/me");
        inBrowser();
        for (const url of ["javascript:alert(1)", "https://id.example/login", "/login"]) {
          await createFetchApi({ redirect, fetch: named("/bye", url) })("/me");
        }
        print(redirects);
        """
    )
    fallback = "/api/logout"
    server_side = [fallback, fallback, fallback, "/bye", "https://app.example/bye"]
    assert told == [*server_side, "/bye", "https://id.example/login", "/login"]


# -- the request -----------------------------------------------------------------------------------


async def test_path_never_leads_to_another_host(node: Node) -> None:
    """Not even one that was made of what a user wrote: the cookie goes along."""
    told = await node(
        """
        const hosts = [];
        const record = (url) => {
          hosts.push(new URL(url, "http://app.example/").host);
          return Promise.resolve(new Response(null, { status: 204 }));
        };
        const paths = ["me", "/me", "//evil.example", "\\\\\\\\evil.example", "@evil.example/",
          ":1/", ".evil.example/", "https://evil.example/"];
        for (const baseUrl of ["", "/", "/api", "http://app.example", "http://app.example/api/"]) {
          const api = createFetchApi({ baseUrl, fetch: record });
          for (const path of paths) await api(path);
        }
        print(hosts);
        """
    )
    assert told == ["app.example"] * 40


async def test_nothing_is_cached_where_cookies_go_along(node: Node) -> None:
    """Unless the call says so: Next.js would give one user's answer to the next one."""
    told = await node(
        """
        const caches = [];
        const fetch = (_, init) => {
          caches.push([init.cache ?? null, init.headers.get("cookie")]);
          return Promise.resolve(Response.json({}));
        };
        await server({ fetch })("/me");
        await server({ fetch, cookie: async () => null })("/me");
        await server({ fetch })("/me", { cache: "force-cache" });
        await createFetchApi({ fetch })("/me");
        print(caches);
        """
    )
    expected = [["no-store", SESSION], ["no-store", None], ["force-cache", SESSION], [None, None]]
    assert told == expected
