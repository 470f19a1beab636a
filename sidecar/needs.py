"""What `run` will need besides the configuration: certificates, keys, directories, addresses.

`check` opens it all and tells everything that is missing at once; nothing is left behind.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.assembly.open_provider import client_certificate
from sidecar.core.config.values import log_file
from sidecar.core.record import replace
from sidecar.core.upstream_url import split_upstream_url
from sidecar.net.parsers import ParserMissing, require_c_parsers
from sidecar.page_files import read_pages
from sidecar.places import require_appendable, require_socket_place, require_store_files
from sidecar.spans import require_opentelemetry
from sidecar.tls import (
    UnusableFile,
    authorities_end_at,
    client_context,
    ends_at,
    now,
    server_context,
)
from sidecar.web.listeners import EVERYWHERE, addresses_of
from sidecar.workers.private import private_directory

if TYPE_CHECKING:
    from sidecar.core.config import Config, Listen

SOON: Final = timedelta(days=14)


def unmet(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """What is missing: the key, the file or address, and the cause. None holds a secret."""
    needs: tuple[Callable[[], object], ...] = (
        require_c_parsers,
        *_tls(config),
        *_addresses(config),
        partial(require_store_files, config.store.url),
        _log(config),
        _directory(config, environ),
        partial(read_pages, config.pages),
    )
    for need in needs:
        try:
            need()
        except (UnusableFile, ParserMissing) as error:
            yield str(error)


def remarks(config: Config) -> Iterator[str]:
    """What is there, but not for long."""
    for key, tls in {one.tls_key: one.tls for one in config.listeners}.items():
        if tls is None:
            continue
        ends = [(f"{key}.cert", tls.cert, ends_at(tls.cert))]
        if tls.client_ca is not None:
            ends.append((f"{key}.client_ca", tls.client_ca, authorities_end_at(tls.client_ca)))
        for at, file, end in ends:
            if end is not None and end - now() < SOON:
                verb = "ended" if end <= now() else "ends"
                yield f"{at}: {file}: the certificate {verb} on {end:%Y-%m-%d %H:%M} UTC"


def _tls(config: Config) -> Iterator[Callable[[], object]]:
    for key, tls in {one.tls_key: one.tls for one in config.listeners}.items():
        if tls is not None:
            yield partial(server_context, tls, key)
    for name, upstream in config.upstreams.items():
        if split_upstream_url(upstream.servers[0]).scheme == "https":
            own, at = upstream.tls, f"upstreams.{name}.tls"
            yield lambda own=own, at=at: client_context(own.ca, own.cert, own.key, at)  # type: ignore[misc]
    if (ca := config.outbound.ca) is not None:
        yield lambda: client_context(ca, at="outbound")
    yield partial(client_certificate, config)
    if (endpoint := config.tracing.endpoint) is not None:
        yield lambda: require_opentelemetry(endpoint)


def _addresses(config: Config) -> Iterator[Callable[[], object]]:
    for key, address in addresses_of(config).items():
        yield partial(_can_listen, key, address)


def _can_listen(key: str, listen: Listen) -> None:
    """Raises `UnusableFile`. An address that is in use is no fault: the sidecar may be running."""
    if listen.unix_path is not None:
        require_socket_place(key, Path(listen.unix_path))
        return
    if listen.host == EVERYWHERE:
        listen = replace(listen, host="")  # of IPv6 if the machine has it, and of IPv4
    try:
        found = socket.getaddrinfo(
            listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise UnusableFile(key, str(listen), f"cannot be resolved: {error.strerror}") from None
    causes = [cause for family, _, _, _, address in found if (cause := _cause(family, address))]
    if len(causes) == len(found):
        raise UnusableFile(key, str(listen), causes[0])


def _cause(family: int, address: tuple[object, ...]) -> str | None:
    """Why nobody can listen there; None if one can, or does."""
    try:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return (error.strerror or type(error).__name__).lower()
    return None


def _log(config: Config) -> Callable[[], object]:
    def need() -> None:
        path = log_file(config.log.target)
        if path is not None:
            require_appendable("log.target", Path(path))

    return need


def _directory(config: Config, environ: Mapping[str, str]) -> Callable[[], object]:
    """Several workers share a directory of their own."""
    is_needed = config.workers != 1 and (
        config.admin is not None or "url" not in config.store.model_fields_set
    )

    def need() -> None:
        if is_needed:
            try:
                with private_directory(environ):
                    pass
            except OSError as error:
                raise UnusableFile("workers", str(config.workers), str(error.strerror)) from None

    return need
