"""The key with which a client proves itself signs here, or is refused at load."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import OKPKey, RSAKey

from sidecar.core.client_assertion import client_assertion, read_private_key
from sidecar.core.config import load
from sidecar.core.errors import ConfigError


def pem_of(curve: ec.EllipticCurve) -> str:
    key = ec.generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


RSA = RSAKey.generate_key(2048)
GOOD = [
    RSA.as_pem(private=True).decode(),
    *map(pem_of, (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())),
]
BAD = [
    *map(pem_of, (ec.SECP256K1(), ec.BrainpoolP256R1())),
    OKPKey.generate_key("Ed25519").as_pem(private=True).decode(),
    RSA.as_pem(private=False).decode(),
    "",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_key_that_is_read_signs(text: str) -> None:
    assertion = client_assertion(read_private_key(text), "app", "https://a", now=0, token_id="i")
    assert assertion.count(".") == 2


@pytest.mark.parametrize("text", BAD)
def test_a_key_that_cannot_sign_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="P-256, P-384 or P-521"):
        read_private_key(text)


def test_a_curve_that_cannot_sign_is_a_fault_of_the_configuration() -> None:
    """It is told by `check`, and not by a traceback of the first start."""
    key = "\n".join(f"    {line}" for line in BAD[1].splitlines())
    text = (
        "upstream: http://a\npublic_url: https://app.example.com\noidc:\n  issuer: https://idp\n"
        f"  client_id: app\n  auth: private_key_jwt\n  key: |\n{key}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load(text, source="file.yaml", environ={}, read_file=lambda _: "")
    assert any("P-256, P-384 or P-521" in str(fault) for fault in refused.value.faults)
