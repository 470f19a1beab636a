"""Paths of routes, endpoints and redirects that do not fit together, in the plain data.

Paths are compared in the form in which those of requests are matched, and by the same table: what
is written in two spellings is one path. A path that cannot be read is told elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from sidecar.core.config.faults import BadValue, Finding
from sidecar.core.config.model import Logout
from sidecar.core.config.renewal import ENDPOINTS, FRONTCHANNEL, Oidc
from sidecar.core.config.routes import KIND_DEFAULTS
from sidecar.core.config.values import parse_origin, parse_path, parse_redirect
from sidecar.core.path_table import PathTable
from sidecar.core.target import prefix_key

Data: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[Data], Iterator[Finding]]


def section(data: Data, name: str) -> Data:
    """A section of the plain data; an empty one if it is missing, or is something else."""
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def written_routes(data: Data) -> Iterator[tuple[int, Data]]:
    """The routes that are mappings, by their places."""
    routes = data.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else ()):
        if isinstance(route, dict):
            yield index, route


def demands_session(route: Data) -> bool:
    """Whether a route has `session: required`, written or by its kind."""
    defaults = KIND_DEFAULTS.get(str(route.get("kind")))
    return bool(route.get("session", defaults and defaults.session) == "required")


def path_on_this_site(target: str, own_origin: str | None) -> str | None:
    """The path that a redirect leads to, as routes match it; None if it leaves the site."""
    if not target.startswith("/"):
        if _origin(target) != own_origin:
            return None
        target = urlsplit(target).path or "/"
    return _normal(re.split("[?#]", target, maxsplit=1)[0])


def _routes_have_paths_of_their_own(data: Data) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, path in _paths(data).items():
        taken = first.setdefault(prefix_key(path), index)
        if taken != index:
            routes = data["routes"]
            both = (routes[at]["path"].rstrip("/") for at in (taken, index))
            spelling = ", in another spelling" if len({*both}) > 1 else ""
            problem = f"must not be the path of routes[{taken}] too{spelling}"
            yield Finding(("routes", index, "path"), problem, "keep one route for each path")


def _redirect_goes_somewhere_allowed(data: Data) -> Iterator[Finding]:
    target, own = _redirect(data), _origin(data.get("public_url"))
    if target is None or target.startswith("/"):
        return
    if _origin(target) == own:
        if path_on_this_site(target, own) is None:
            remedy = "write it without //, /./ and /../"
            yield Finding(("logout", "redirect_to"), "must have a path that routes match", remedy)
    elif _origin(target) not in _origins(section(data, "logout").get("allowed_origins")):
        remedy = "add its origin to logout.allowed_origins, or use a local path"
        yield Finding(("logout", "redirect_to"), "must lead to an allowed origin", remedy)


def _redirect_ends_the_loop(data: Data) -> Iterator[Finding]:
    target = _redirect(data)
    path = target and path_on_this_site(target, _origin(data.get("public_url")))
    if path is None:
        return
    if prefix_key(path) in _own_paths(data):
        if prefix_key(path) != _own_login(data):
            yield Finding(
                ("logout", "redirect_to"),
                "must be a login",
                f"use {_own_login(data)}, or remove it",
            )
        return
    if prefix_key(path) == prefix_key(_logout_path(data)):
        yield Finding(
            ("logout", "redirect_to"), "must not be logout.path", "use the path of the login"
        )
        return
    index = _closed_route(data, path)
    if index is not None:
        yield Finding(
            ("logout", "redirect_to"),
            f"must not lead to routes[{index}], which requires a session: a logout would loop",
            f'add a route for "{path}" with session: optional or none, or use another path',
        )


def _closed_route(data: Data, path: str) -> int | None:
    """The route that demands a session of requests to `path`, in any reading; or None.

    Also the route of a page whose content the same upstream gives there in another format.
    """
    paths, routes = _paths(data), dict(written_routes(data))
    closed = {index: demands_session(routes[index]) for index in paths}
    table = PathTable({paths[index]: closed[index] for index in paths})
    found = table.find(path)
    if found is None:
        return None
    indexes = {prefix_key(one): index for index, one in paths.items()}
    upstream = routes[indexes[found.prefix]].get("upstream")
    pages = [one for one in found.pages if routes[indexes[one]].get("upstream") == upstream]
    names = (found.prefix, *found.closed, *pages)
    return next((indexes[name] for name in names if closed[indexes[name]]), None)


def _logout_is_a_path_of_its_own(data: Data) -> Iterator[Finding]:
    if _logout_path(data) == "/":
        yield Finding(
            ("logout", "path"), "must not be the whole site", "use a path such as /api/logout"
        )


def _own_login_has_its_paths(data: Data) -> Iterator[Finding]:
    path = prefix_key(_logout_path(data))
    if path in _own_paths(data) and path != f"{_own_base(data)}/logout":
        remedy = f"use {_own_base(data)}/logout, or a path elsewhere"
        yield Finding(("logout", "path"), "must not be another endpoint of oidc", remedy)


PATH_RULES: Final[tuple[Rule, ...]] = (
    _routes_have_paths_of_their_own,
    _redirect_goes_somewhere_allowed,
    _redirect_ends_the_loop,
    _logout_is_a_path_of_its_own,
    _own_login_has_its_paths,
)


def _normal(path: object) -> str | None:
    """A path as requests' are matched; None if it is none."""
    with suppress(BadValue):
        return parse_path(path) if isinstance(path, str) else None
    return None


def _paths(data: Data) -> dict[int, str]:
    found = {index: _normal(route.get("path")) for index, route in written_routes(data)}
    return {index: path for index, path in found.items() if path is not None}


def _redirect(data: Data) -> str | None:
    default = _own_login(data) or Logout().redirect_to
    target = section(data, "logout").get("redirect_to", default)
    with suppress(BadValue):
        return parse_redirect(target) if isinstance(target, str) else None
    return None


def _origins(values: object) -> set[str | None]:
    return {_origin(value) for value in (values if isinstance(values, list) else ())} - {None}


def _origin(value: object) -> str | None:
    """The origin of a URL, None if it has none."""
    with suppress(BadValue, ValueError):
        split = urlsplit(value) if isinstance(value, str) else None
        return parse_origin(f"{split.scheme}://{split.netloc}") if split else None
    return None


def _logout_path(data: Data) -> str:
    return _normal(section(data, "logout").get("path")) or Logout().path


def _own_base(data: Data) -> str | None:
    """What the paths of the sidecar's own login begin with; None where there is none."""
    if not isinstance(data.get("oidc"), dict):
        return None
    path = _normal(data["oidc"].get("path", Oidc.model_fields["path"].default))
    return None if path is None else prefix_key(path)


def _own_login(data: Data) -> str | None:
    base = _own_base(data)
    return None if base is None else f"{base}/{ENDPOINTS[0]}"


def _own_paths(data: Data) -> frozenset[str]:
    base = _own_base(data)
    names = () if base is None else (*ENDPOINTS, FRONTCHANNEL)
    return frozenset(f"{base}/{name}" for name in names)
