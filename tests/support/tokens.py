"""Tokens of every kind that a caller may send, good and bad."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from uuid import uuid4

import jwt

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


def signed(body: Claims, key: str = KEY, algorithm: str = "HS256") -> str:
    """Sign claims as the service would."""
    return jwt.encode(body, key, algorithm)


def handmade(header: Claims, body: Claims, signature: bytes | None = None, *, padding: bool = False) -> str:
    """Build a token that PyJWT would refuse to, signed with HMAC-SHA256 by default."""
    parts = [json.dumps(part) for part in (header, body)]
    if padding:  # white space up to a length that needs it, which JSON allows
        parts = [part + " " * (1 - len(part) % 3) for part in parts]
    head = ".".join(_encoded(part.encode()) + ("=" if padding else "") for part in parts)
    if signature is None:
        signature = hmac.new(KEY.encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
