"""The programs that are measured, each configured as its users would: one worker, its log on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from string import Template
from typing import Final

from tests.bench.site import HOST, Place, Session, auth_js

DIRECT: Final = "direct"  # the upstream, asked without a proxy


class Body(Enum):
    """What becomes of a JSON document."""

    AS_IT_IS = "the upstream's bytes"
    SPLICED = "an envelope round the upstream's bytes"
    REWRITTEN = "an envelope round the same values"


class Cookies(Enum):
    """Which cookies the upstream is sent."""

    KEPT = "all"
    STRIPPED = "those that are no session"
    DROPPED = "none"


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that is measured.

    `does` is told in the table. `command` writes the configuration and says how to start it.
    `missing` says what helps where it is not installed, None where it is. `build` installs it, for
    those that no package has.
    `body` is what it makes of JSON, `cookies` of the session's cookies; `token` is the field in
    which the upstream gets the session's token, None where it gets none.
    `beside` starts what it needs besides itself; `session` makes the session that it knows, once
    its process has been started. `warm_ups` is how many rounds it takes to be at its speed.
    """

    does: str
    command: Callable[[Place], Sequence[str]]
    missing: Callable[[], str | None] = lambda: None
    build: Callable[[], Path] | None = None
    body: Body = Body.AS_IT_IS
    cookies: Cookies = Cookies.KEPT
    token: str | None = None
    base: str = "/api"
    beside: Callable[[ExitStack, Place], Place] = lambda _, place: place
    session: Callable[[Place], Session] = auth_js
    environ: Callable[[Place], Mapping[str, str]] = lambda _: {}
    cwd: Path | None = None
    warm_ups: int = 1


# -- what is installed --------------------------------------------------------------------------


def program(name: str) -> str:
    """The path of a program. Raises `FileNotFoundError`."""
    found = _find(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def lacks(*names: str) -> list[str]:
    """Those of the programs that are not installed; Debian's packages have the same names."""
    return [name for name in names if _find(name) is None]


def _find(name: str) -> str | None:
    # Debian keeps servers where not every user's PATH leads.
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def _package(name: str) -> Callable[[], str | None]:
    return lambda: f"apt-get install {name}" if lacks(name) else None


# -- nginx --------------------------------------------------------------------------------------

_LUA_MODULES: Final = Path("/usr/lib/nginx/modules")
_CJSON: Final = "/usr/lib/*/lua/5.1/cjson.so"

_NGINX: Final = """$user worker_processes 1; worker_rlimit_nofile 16384;
daemon off; pid nginx.pid; error_log stderr; $modules
events { worker_connections 8192; }
http {
  access_log $log; keepalive_requests 100000000;
  default_type application/octet-stream; types { application/json json; }
  large_client_header_buffers 8 32k; client_max_body_size 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi; proxy_http_version 1.1;
  map $$http_upgrade $$hop { default ""; websocket upgrade; }
  $http
}
"""

_UPSTREAM: Final = """
  upstream echo { server $host:$echo; keepalive 64; }
  server {
    listen $host:$port backlog=4096; root $home/www;
    proxy_set_header Connection $$hop; proxy_set_header Upgrade $$http_upgrade;
    location / { try_files $$uri @echo; error_page 405 =200 $$uri; }
    location @echo {
      proxy_pass http://echo; proxy_buffering off; proxy_request_buffering off;
    }
    location /api/gone {
      default_type application/json; return 401 '{"message": "The token is not good"}';
    }
    location /api/renewed {
      default_type application/json;
      if ($$http_authorization ~ "^Bearer renewed-") { return 200 '{"data": {}}'; }
      return 401 '{"message": "The token is not good"}';
    }
    location /token {
      default_type application/json;
      return 200 '{"access_token": "renewed-$$request_id", "refresh_token": "$$request_id"}';
    }
  }"""

_PROXY: Final = """
  upstream api { server $host:$upstream; keepalive 64; keepalive_requests 100000000; }
  server {
    listen $host:$port backlog=4096;
    proxy_set_header Connection $$hop; proxy_set_header Upgrade $$http_upgrade;
    location / { proxy_pass http://api; }
    location /api/echo { proxy_pass http://api; proxy_buffering off; }
  }"""

_LUA: Final = """
  lua_package_cpath "$cjson;;";
  upstream api { server $host:$upstream; keepalive 64; keepalive_requests 100000000; }
  server {
    listen $host:$port backlog=4096; proxy_set_header Connection "";
    location /inner/ { internal; proxy_pass http://api/; }
    location / { content_by_lua_block {
      local cjson = require "cjson"
      local answer = ngx.location.capture("/inner" .. ngx.var.uri)
      local text = cjson.encode({isError = false, message = cjson.null, status = answer.status,
        data = cjson.decode(answer.body).data, errorData = cjson.null})
      ngx.status = answer.status
      ngx.header["Content-Type"], ngx.header["Content-Length"] = "application/json", #text
      ngx.print(text)
    } }
  }"""


def _nginx(
    place: Place, *, http: str, log: str, modules: Sequence[str] = (), echo: int = 0
) -> list[str]:
    # As root, nginx would change to a user who cannot read the private directory.
    user = "user root;" if os.geteuid() == 0 else ""
    places = {"host": HOST, "port": place.port, "home": place.site.home, "echo": echo}
    places |= {"upstream": place.site.upstream, "cjson": _cjson()}
    text = Template(_NGINX).substitute(
        user=user,
        log=log,
        modules=" ".join(f"load_module {_LUA_MODULES / one};" for one in modules),
        http=Template(http).substitute(places),
    )
    config = place.folder / "nginx.conf"
    config.write_text(text)
    return [program("nginx"), "-e", "stderr", "-p", str(place.folder), "-c", str(config)]


def upstream(echo: int) -> Contender:
    """What all others stand in front of: files, and what `upstream.py` serves on port `echo`."""
    return Contender("", partial(_nginx, http=_UPSTREAM, log="off", echo=echo))


_LOG: Final = "access.log combined buffer=64k flush=1s"
_LUA_SO: Final = ("ndk_http_module.so", "ngx_http_lua_module.so")


def _cjson() -> str:
    return next(map(str, Path("/").glob(_CJSON[1:])), "")


def _lua_missing() -> str | None:
    there = all((_LUA_MODULES / one).exists() for one in _LUA_SO) and _cjson()
    return None if there else "apt-get install libnginx-mod-http-lua lua-cjson"


# -- HAProxy, Caddy -----------------------------------------------------------------------------

_HAPROXY: Final = """
global
  nbthread 1
  maxconn 8192
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout tunnel 1h
  http-reuse always
frontend here
  bind $host:$port backlog 4096
  default_backend api
backend api
  server one $host:$upstream
"""

_CADDY: Final = """{
  admin off
  auto_https off
}
http://$host:$port {
  log {
    output file $folder/access.log
  }
  reverse_proxy $host:$upstream
}
"""


def _written(place: Place, text: str) -> str:
    file = place.folder / "config"
    places = {"host": HOST, "port": place.port, "upstream": place.site.upstream}
    file.write_text(Template(text).substitute(places, folder=place.folder))
    return str(file)


def _haproxy(place: Place) -> Sequence[str]:
    return [program("haproxy"), "-db", "-f", _written(place, _HAPROXY)]


def _caddy(place: Place) -> Sequence[str]:
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", _written(place, _CADDY)]


def _caddy_environ(place: Place) -> Mapping[str, str]:
    return {
        "GOMAXPROCS": "1",
        "XDG_CONFIG_HOME": str(place.folder),
        "XDG_DATA_HOME": str(place.folder),
    }


OTHERS: Final[Mapping[str, Contender]] = {
    "nginx": Contender(
        "passes on", partial(_nginx, http=_PROXY, log=_LOG), missing=_package("nginx")
    ),
    "nginx + Lua": Contender(
        "envelope (cjson)",
        partial(_nginx, http=_LUA, log=_LOG, modules=_LUA_SO),
        missing=_lua_missing,
        body=Body.REWRITTEN,
    ),
    "HAProxy": Contender("passes on", _haproxy, missing=_package("haproxy")),
    "Caddy": Contender("passes on", _caddy, missing=_package("caddy"), environ=_caddy_environ),
}
