"""Tokens of every kind that a caller may send, good and bad."""

import base64
import hmac
import json
import time
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from killrvideo_grpc.security.access_keys import AccessKey, access_keys
from tests.support.settings import KEY

Claims = dict[str, Any]


def claims(subject: str, session_id: str, **changes: Any) -> Claims:
    """Return the claims of a good token for a session; a change to None leaves a claim out."""
    present = int(time.time())
    good = {
        "sub": subject,
        "sid": session_id,
        "roles": ["viewer"],
        "exp": present + 600,
        "iat": present,
        "nbf": present,
        "iss": "killrvideo.user.v1",
        "aud": "killrvideo",
        "jti": str(uuid4()),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signing_key(key: str = KEY) -> AccessKey:
    """Return the key pair that the service derives from a secret key."""
    return access_keys([key], "ES256")[0]


def signed(body: Claims, key: str = KEY, algorithm: str = "ES256") -> str:
    """Sign claims as the service would."""
    if algorithm != "ES256":
        return jwt.encode(body, key, algorithm)
    pair = signing_key(key)
    return jwt.encode(body, pair.signing, algorithm, {"kid": pair.kid})


def handmade(header: Claims, body: Claims, signature: bytes | None = None, *, padding: bool = False) -> str:
    """Build a token that PyJWT would refuse to, signed with the service's key by default."""
    parts = [json.dumps(part) for part in (header, body)]
    if padding:  # white space up to a length that needs it, which JSON allows
        parts = [part + " " * (1 - len(part) % 3) for part in parts]
    head = ".".join(_encoded(part.encode()) + ("=" if padding else "") for part in parts)
    if signature is None:
        signature = ECAlgorithm(ECAlgorithm.SHA256).sign(head.encode(), signing_key().signing)
    return f"{head}.{_encoded(signature)}"


def with_public_key_as_secret(body: Claims) -> str:
    """Sign claims with HMAC and the public key, which a verifier that trusts the header `alg` would accept."""
    return with_secret(signing_key().verifying.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), body)


def with_secret(secret: bytes, body: Claims) -> str:
    """Sign claims with HMAC and any bytes, also those that PyJWT refuses."""
    header = {"alg": "HS256", "kid": signing_key().kid}
    head = ".".join(_encoded(json.dumps(part).encode()) for part in (header, body))
    return f"{head}.{_encoded(hmac.digest(secret, head.encode(), 'sha256'))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
