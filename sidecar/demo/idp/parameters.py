"""Form and query parameters as RFC 6749 section 3.1 reads them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

_MOST = 50


class UnreadableParameters(ValueError):
    """They are malformed, or one stands there more than once. The text holds no value."""


def read_parameters(text: str) -> dict[str, str]:
    """`application/x-www-form-urlencoded` text; a parameter without a value counts as left out.

    Raises `UnreadableParameters`.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST, errors="strict")
    except ValueError as error:
        raise UnreadableParameters("the parameters cannot be read") from error
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise UnreadableParameters("a parameter stands there more than once")
    return {name: value for name, value in pairs if value}


def with_parameters(uri: str, parameters: Mapping[str, str | None]) -> str:
    """A URI with more query parameters, those that are not None; its own stay byte for byte."""
    more = urlencode({name: value for name, value in parameters.items() if value is not None})
    if not more:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{more}"
