"""The keys of access tokens, derived from SECRET_KEY and its fallbacks."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ES256 = "ES256"
PURPOSE = b"killrvideo.user.v1 access token ES256"
# The order of P-256 (FIPS 186-5).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class JsonWebKey:
    """A public key, as RFC 7517 has it."""

    kty: str
    crv: str
    x: str
    y: str
    kid: str
    use: str
    alg: str


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What signs and verifies access tokens. `kid` names it in their header; None for HMAC, which has no public key."""

    signing: Any = field(repr=False)
    verifying: Any = field(repr=False)
    kid: str | None = None


def access_keys(secret_keys: Iterable[str], algorithm: str) -> list[AccessKey]:
    """Return the key of each secret key for ES256 or an HMAC algorithm, in the same order."""
    if algorithm != ES256:
        return [AccessKey(secret, secret) for secret in secret_keys]
    pairs = [_key_pair(secret) for secret in secret_keys]
    return [AccessKey(pair, pair.public_key(), _public_jwk(pair.public_key()).kid) for pair in pairs]


def json_web_keys(keys: Iterable[AccessKey]) -> list[JsonWebKey]:
    """Return the public keys; none for HMAC."""
    return [_public_jwk(key.verifying) for key in keys if key.kid is not None]


def key_set_document(keys: Sequence[JsonWebKey]) -> str:
    """Return the JSON Web Key Set as JSON."""
    return json.dumps({"keys": [asdict(key) for key in keys]})


def _key_pair(secret_key: str) -> ec.EllipticCurvePrivateKey:
    # 128 bits more than the order has, so that the remainder is unbiased (FIPS 186-5, A.2.1).
    seed = HKDF(SHA256(), length=48, salt=None, info=PURPOSE).derive(secret_key.encode())
    return ec.derive_private_key(int.from_bytes(seed) % (ORDER - 1) + 1, ec.SECP256R1())


def _public_jwk(key: ec.EllipticCurvePublicKey) -> JsonWebKey:
    numbers = key.public_numbers()
    x, y = (_base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
    # RFC 7638: the required members in alphabetical order, without white space.
    members = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    thumbprint = _base64url(hashlib.sha256(members.encode()).digest())
    return JsonWebKey("EC", "P-256", x, y, kid=thumbprint, use="sig", alg=ES256)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
