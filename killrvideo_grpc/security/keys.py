"""Keys derived from SECRET_KEY, one per purpose, so that no kind of token can pass for another."""

import hashlib
import hmac
from collections.abc import Callable


def derived_key(secret_key: str, purpose: str) -> bytes:
    """Returns the 32-byte key for a purpose, such as `page token`."""
    return hmac.digest(secret_key.encode(), f"killrvideo.user.v1 {purpose}".encode(), hashlib.sha256)


def keyed_digest(secret_key: str, purpose: str) -> Callable[[str], bytes]:
    """Returns a function that hashes text with a derived key (HMAC-SHA-256, 32 bytes)."""
    key = derived_key(secret_key, purpose)
    return lambda text: hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
