"""Which variables may hold a secret: those that a configuration is made of."""

from __future__ import annotations

from sidecar.core.config.variables import variables


def test_which_variables_a_configuration_is_made_of() -> None:
    names = (
        "SIDECAR_LISTEN",
        "SIDECAR_CONFIG",
        "A",
        "B",
        "C",
        "AUTH_SECRET",
        "HTTPS_PROXY",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "PATH",
    )
    text = "secret: ${A}\nlisten: ${B:-x}\npages: $${C}"
    found = {"SIDECAR_LISTEN", "A", "B", *names[5:7], "OTEL_EXPORTER_OTLP_HEADERS"}
    assert variables(text, names) == found
    assert variables(None, names) == found - {"A", "B"}


def test_what_libraries_look_up_later_stays() -> None:
    """OpenSSL finds the authorities to trust by it."""
    names = ("SSL_CERT_FILE", "PATH", "A")
    assert variables("ca: ${SSL_CERT_FILE}\nb: ${PATH}${A}", names) == {"A"}
