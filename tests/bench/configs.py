"""How each contender is configured: as its users would, one worker, no access log."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from authjs import Login

HOST = "127.0.0.1"
PROXIES = ("nginx", "caddy", "sidecar")
LOGGING = "access log on"  # the sidecar as its defaults have it
DIRECT = "direct"  # the static upstream, asked without a proxy

Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """What all contenders are given: a private directory whose `www` holds the upstream's files,
    the login, and the ports of the static and of the echoing upstream.
    """

    home: Path
    login: Login
    echo: int
    static: int = 0


_NGINX_COMMON = """$user worker_processes 1; worker_rlimit_nofile 8192;
daemon off; pid nginx.pid; error_log stderr;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000;
  default_type application/octet-stream; types { application/json json; }
  large_client_header_buffers 8 32k; client_max_body_size 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
"""

_STATIC = """  server { listen $host:$port; root $home/www; }
}
"""

_NGINX = """  proxy_http_version 1.1; proxy_set_header Connection "";
  upstream static { server $host:$static; keepalive 64; keepalive_requests 100000000; }
  upstream echo { server $host:$echo; }
  server {
    listen $host:$port;
    location /api/ { proxy_pass http://static/; }
    location /echo/ { proxy_pass http://echo/; }
  }
}
"""

_CADDY = """{
  admin off
  auto_https off
}
http://$host:$port {
  handle_path /api/* {
    reverse_proxy $host:$static
  }
  handle_path /echo/* {
    reverse_proxy $host:$echo
  }
}
"""

_TEXTS = {
    DIRECT: Template(_NGINX_COMMON + _STATIC),
    "nginx": Template(_NGINX_COMMON + _NGINX),
    "caddy": Template(_CADDY),
}


def configuration(site: Site, name: str, port: int, admin: int) -> str:
    """The configuration file of a contender that listens on `port`.

    `admin` is the port of the sidecar's admin listener.
    """
    if name in VARIANTS:
        settings = _sidecar(site, port, admin)
        VARIANTS[name](settings)
        return json.dumps(settings)  # YAML holds JSON
    # As root, nginx would change to a user who cannot read the private directory.
    user = "user root;" if os.geteuid() == 0 else ""
    places = {"host": HOST, "port": port, "home": site.home, "user": user}
    return _TEXTS[name].substitute(places, static=site.static, echo=site.echo)


def _sidecar(site: Site, port: int, admin: int) -> Settings:
    """Only what has no default, and the access log, which is off."""
    return {
        "listen": f"{HOST}:{port}",
        "admin": f"{HOST}:{admin}",
        "upstreams": {
            "api": {"url": f"http://{HOST}:{site.static}"},
            "echo": {"url": f"http://{HOST}:{site.echo}"},
        },
        "routes": [
            {"path": f"/{name}/", "kind": "api", "upstream": name, "strip": f"/{name}"}
            for name in ("api", "echo")
        ],
        "session": {"sources": [{"type": "authjs", "secret": site.login.secret}]},
        "log": {"access": False},
    }


def _as_it_is(_: Settings) -> None:
    """Changes nothing: this is the sidecar itself."""


def _with_access_log(settings: Settings) -> None:
    settings["log"]["access"] = True


def _without_envelope(settings: Settings) -> None:
    settings["routes"][0]["envelope"] = False


def _without_session(settings: Settings) -> None:
    settings["routes"][0]["session"] = "none"


def _with_many_routes(settings: Settings) -> None:
    first = settings["routes"][0]
    settings["routes"] += [first | {"path": f"/api/part{number}/"} for number in range(1000)]


VARIANTS: dict[str, Callable[[Settings], None]] = {
    "sidecar": _as_it_is,
    LOGGING: _with_access_log,
    "no envelope": _without_envelope,
    "no session": _without_session,
    "1,000 more routes": _with_many_routes,
}
"""The sidecar, and the sidecar with one thing changed, but never for the echoing upstream."""

WRAPPING = VARIANTS.keys() - {"no envelope"}
"""The contenders that put the static upstream's JSON into an envelope."""
