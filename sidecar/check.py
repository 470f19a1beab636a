"""What `check` says of a configuration: its faults, what it amounts to, and what to register."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sidecar import needs
from sidecar.core.config.effective import Effective, effective
from sidecar.core.config.faults import Fault, undotted
from sidecar.core.config.listen_section import addresses
from sidecar.core.config.path_faults import path_on_this_site
from sidecar.core.config.renewal import FRONTCHANNEL
from sidecar.core.errors import ConfigError

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.core.config.tree import Tree
    from sidecar.probes import Probe

_HERE = "<public_url>"
_KEY: Final = re.compile(r"[a-z_]+(\.[^\s.\[\]:]+|\[[0-9]+\])*")


class CheckReport:
    """A configuration that was looked at."""

    def __init__(self, source: str, environ: Mapping[str, str]) -> None:
        self._source = source
        self._environ = environ
        self._config: Config | None = None
        self._tree: Tree | None = None
        self._keys: list[Effective] = []
        self._faults: list[Fault | str] = []
        self._warnings: list[str] = []
        self._probes: list[Probe] = []

    def read(self, load: Callable[[], tuple[Config, Tree]], *, asks: bool) -> None:
        """Loads it, and opens what `run` will need; `asks`: the servers that it names as well."""
        try:
            config, tree = load()
        except ConfigError as error:
            self._faults += [one for one in error.faults if isinstance(one, Fault)]
            return
        except OSError as error:
            self._faults.append(str(error))
            return
        self._config, self._tree, self._keys = config, tree, effective(config, tree)
        self._faults += [f"{self._source}: {one}" for one in needs.unmet(config, self._environ)]
        self._warnings += [*config.warnings, *needs.remarks(config)]
        if asks and not self._faults:
            from sidecar.probes import probe

            self._probes = probe(config)

    def exit_code(self, *, strict: bool) -> int:
        """2 for faults, and for warnings if `strict`; 1 if something does not answer."""
        if self._faults or (strict and self._warnings):
            return 2
        return 1 if any(one.trouble for one in self._probes) else 0

    def lines(self, *, effective: bool) -> list[str]:
        """What there is to say, if there are no faults."""
        if self._config is None or self._faults:
            return []
        lines = ["ok", *summary(self._config)]
        if effective:
            rows = [(one.key, _text(one.value), one.origin) for one in self._keys]
            lines += table([("KEY", "VALUE", "ORIGIN"), *rows])
        if self._probes:
            rows = [(one.what, one.address, one.trouble or "ok") for one in self._probes]
            lines += table([("PROBE", "ADDRESS", "RESULT"), *rows])
        return lines

    def complaints(self) -> Iterator[str]:
        """Faults and warnings."""
        yield from map(str, self._faults)
        yield from (f"warning: {warning}" for warning in self._warnings)

    def as_json(self, *, effective: bool) -> list[str]:
        """All of it as one JSON object."""
        said: dict[str, Any] = {
            "ok": not self._faults,
            "source": self._source,
            "faults": [self._fault(one) for one in self._faults],
            "warnings": self._warnings,
            "findings": [
                *({"severity": "fault", **self._fault(one)} for one in self._faults),
                *({"severity": "warning", **self._placed(one)} for one in self._warnings),
            ],
        }
        if self._config is not None:
            said |= facts(self._config)
        if effective:
            said["effective"] = [one._asdict() for one in self._keys]
        if self._probes:
            said["probes"] = [{**one._asdict(), "ok": not one.trouble} for one in self._probes]
        return [json.dumps(said, indent=2)]

    def _fault(self, one: Fault | str) -> dict[str, Any]:
        if isinstance(one, str):  # of what `run` needs, in front of which the file is named
            return {**self._placed(one.removeprefix(f"{self._source}: ")), "text": one}
        place = {"path": one.path, "line": one.line, "source": one.source}
        return {"text": str(one), **place, "problem": one.problem, "remedy": one.remedy}

    def _placed(self, text: str) -> dict[str, Any]:
        """A sentence that begins with its key, with the place where the key is written."""
        path, colon, words = text.partition(": ")
        is_key = bool(colon) and _KEY.fullmatch(path) is not None
        problem, _, remedy = (words if is_key else text).partition("; ")
        place = self._tree.locate(undotted(path)) if self._tree and is_key else None
        source = place if isinstance(place, str) else self._source
        return {
            "text": text,
            "path": path if is_key else "",
            "line": place if isinstance(place, int) else None,
            "source": source,
            "problem": problem,
            "remedy": remedy,
        }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def registrations(config: Config) -> dict[str, str]:
    """The URLs that the provider must know, by their names in client metadata."""
    oidc = config.oidc
    if oidc is None:
        return {}
    origin = config.public_url or _HERE
    home = config.logout.redirect_to
    home = "/" if oidc.is_login(path_on_this_site(home, config.public_url)) else home
    found = {
        "redirect_uri": f"{origin}{oidc.base}/callback",
        "post_logout_redirect_uri": f"{origin}{home}" if home.startswith("/") else home,
        "backchannel_logout_uri": f"{origin}{oidc.base}/backchannel-logout",
    }
    if oidc.frontchannel:
        found["frontchannel_logout_uri"] = f"{origin}{oidc.base}/{FRONTCHANNEL}"
    return found


def facts(config: Config) -> dict[str, Any]:
    """What a configuration amounts to, as JSON."""
    return {
        "listen": addresses(config.listen),
        "scheme": config.listeners[0].scheme,
        "listeners": [
            {
                "address": str(one.address),
                "scheme": one.scheme,
                "proxy_protocol": one.proxy_protocol,
            }
            for one in config.listeners
        ],
        "admin": None if config.admin is None else str(config.admin),
        "logout": {"path": config.logout.path, "redirect_to": config.logout.redirect_to},
        "sources": [source.type for source in config.session.sources],
        "register": registrations(config),
        "routes": [
            {
                "path": route.path,
                "kind": route.kind,
                "session": route.session,
                "inject": route.inject,
                "cookies": route.cookies,
                "envelope": route.envelope is not None,
                "on_unauthorized": route.on_unauthorized,
                "observe": route.observe,
                "upstream": route.upstream,
                "url": ", ".join(config.upstreams[route.upstream].servers),
            }
            for route in sorted(config.routes, key=lambda route: len(route.path), reverse=True)
        ],
    }


def summary(config: Config) -> Iterator[str]:
    """The same for people."""
    said = facts(config)
    yield f"listen   {', '.join(_listener(one) for one in said['listeners'])}"
    yield f"admin    {said['admin'] or 'off'}"
    yield f"logout   {config.logout.path} -> {config.logout.redirect_to}"
    yield f"sources  {', '.join(said['sources']) or 'none'}"
    if said["register"]:
        yield "register at the provider:"
        yield from (f"  {line}" for line in table([*said["register"].items()]))
    yield from table(
        [
            ("PATH", "KIND", "SESSION", "INJECT", "COOKIES", "ENVELOPE", "ON 401", "UPSTREAM"),
            *(_row(route) for route in said["routes"]),
        ]
    )


def _listener(one: dict[str, Any]) -> str:
    header = ", PROXY header" if one["proxy_protocol"] else ""
    return f"{one['address']} ({one['scheme']}{header})"


def _row(route: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{route['path']} (observed)" if route["observe"] else route["path"],
        route["kind"],
        route["session"],
        "yes" if route["inject"] else "no",
        route["cookies"],
        "yes" if route["envelope"] else "no",
        route["on_unauthorized"],
        f"{route['upstream']} ({route['url']})",
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
