"""Keys derived from SECRET_KEY, each for one purpose, so that no kind of token passes for another."""

import hashlib
import hmac


def derived_key(secret_key: str, purpose: str) -> bytes:
    """Returns the key for a purpose, such as `page token`: 32 bytes."""
    return hmac.digest(secret_key.encode(), f"killrvideo.user.v1 {purpose}".encode(), hashlib.sha256)
