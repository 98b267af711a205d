"""Keys derived from SECRET_KEY, each for one purpose, so that no kind of token passes for another."""

import hashlib
import hmac
from collections.abc import Callable


def derived_key(secret_key: str, purpose: str) -> bytes:
    """Returns the key for a purpose, such as `page token`: 32 bytes."""
    return hmac.digest(secret_key.encode(), f"killrvideo.user.v1 {purpose}".encode(), hashlib.sha256)


def keyed_digest(secret_key: str, purpose: str) -> Callable[[str], bytes]:
    """Returns a hash of text (HMAC-SHA-256, 32 bytes) that nobody can compute without the key."""
    key = derived_key(secret_key, purpose)
    return lambda text: hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
